"""SAM and MedSAM of Hugging Face: the contract, and the masks of transformers' own processor."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medfocus_pipeline import segmentation
from medfocus_pipeline.config import (
    MasksConfig,
    MedSamConfig,
    Runtime,
    SamConfig,
    SegmenterConfig,
    ThresholdConfig,
)
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.sam.sam_pixels import in_frame, letterboxed, stretched
from medfocus_pipeline.segmenters import find_weights, load_segmenter, model_id
from medfocus_pipeline.segmenters.protocol import Segmenter
from medfocus_pipeline.segmenters.threshold import ThresholdSegmenter
from medfocus_pipeline.types import Candidates, Image
from medfocus_pipeline.weights import FileHashes
from tests.segmenters.sam_models import IMAGE_SIZE, write_sam
from tests.side_by_side import alone_and_together, check_equal

LIMITLESS: dict[str, Any] = {"min_area": 0, "max_area": 1, "duplicate_iou": 1, "precision": "fp32"}
OPEN = {"min_score": 0, "min_stability": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sam(tmp_path_factory.mktemp("sam") / "tiny-sam")


def picture(height: int, width: int, seed: int = 0) -> Image:
    """Noise and a bright square: nothing to recognise, nothing constant."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 120, (height, width, 3), dtype=np.uint8)
    image[height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] += 100
    return image


def loaded(config: SegmenterConfig, *, frame: int = 64, candidates: int = 255) -> Segmenter:
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    masks = MasksConfig(segmenter=config, frame=frame, max_candidates=candidates)
    return load_segmenter(masks, weights, Runtime(device="cpu"))


def sam(folder: Path, **settings: Any) -> SamConfig:
    return SamConfig(
        **{"model": str(folder), "points_per_side": 3, "prompting": "grid", **OPEN, **LIMITLESS}
        | settings
    )


def check_contract(found: Candidates, *, frame: int, limit: int) -> None:
    assert found.masks.shape == (len(found), frame, frame)
    assert found.masks.dtype == np.bool_
    assert len(found) <= limit
    assert found.masks.any(axis=(1, 2)).all()
    assert (np.diff(found.score) <= 0).all()
    for name in ("score", "stability", "support", "area"):
        values = getattr(found, name)
        assert values.dtype == np.float32
        assert ((values >= 0) & (values <= 1)).all()


def every_config(folder: Path) -> list[SegmenterConfig]:
    return [
        sam(folder),
        sam(folder, prompting="adaptive", points_per_side=8),
        MedSamConfig(model=str(folder), box="border", **LIMITLESS),
        MedSamConfig(model=str(folder), box="threshold", **LIMITLESS),
    ]


@pytest.mark.parametrize("index", range(4))
def test_a_batch_gives_what_each_image_gives_alone_and_keeps_the_contract(
    folder: Path, index: int
) -> None:
    tool = loaded(every_config(folder)[index], frame=32, candidates=7)
    images = [picture(50, 91), np.zeros((3, 300, 3), np.uint8), picture(1, 1), picture(70, 40)]
    assert tool.segment([]) == []
    assert tool.batch_size == 1
    for image, found in zip(images, tool.segment(images), strict=True):
        check_contract(found, frame=32, limit=7)
        (alone,) = tool.segment([image])
        np.testing.assert_allclose(found.score, alone.score, atol=1e-5)
        np.testing.assert_array_equal(found.boxes, alone.boxes)


@pytest.mark.parametrize("index", range(4))
def test_several_threads_get_what_one_gets(folder: Path, index: int) -> None:
    tool = loaded(every_config(folder)[index], frame=32, candidates=7)
    inputs = [[picture(50, 91)], [picture(1, 1), picture(70, 40)], [picture(33, 33)]]
    for alone, together in alone_and_together(tool.segment, inputs):
        check_equal(alone, together)


@pytest.mark.parametrize("size", [(64, 64), (40, 64), (64, 23)])
def test_masks_equal_those_of_transformers_own_processor(
    folder: Path, size: tuple[int, int]
) -> None:
    import torch
    from transformers import SamImageProcessor, SamModel

    image = picture(*size)
    height, width = size
    share = (np.arange(3, dtype=np.float32) + 0.5) / 3
    points = [[x * width, y * height] for y in share for x in share]
    square = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    processor = SamImageProcessor(size={"longest_edge": IMAGE_SIZE}, pad_size=square)
    inputs = processor(image, return_tensors="pt")
    with torch.inference_mode():
        model = SamModel.from_pretrained(folder)
        said = model(
            pixel_values=inputs["pixel_values"], input_points=torch.tensor(points)[None, :, None]
        )
    (masks,) = processor.post_process_masks(
        said.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
    )
    expected = masks.flatten(0, 1).numpy()
    scores = said.iou_scores.flatten().clamp(0, 1).numpy()
    (found,) = loaded(sam(folder), frame=512).segment([image])
    assert len(found) == expected.any(axis=(1, 2)).sum() > 9
    rows, columns = (np.int64((np.arange(n) + 0.5) * 512 / n) for n in size)
    ours = found.masks[:, rows][:, :, columns]  # the frame brought back to the image's size
    agreement = []
    for mask, score in zip(ours, found.score, strict=True):
        same = expected[np.abs(scores - score) < 1e-4]
        agreement.append(((same & mask).sum(axis=(1, 2)) / (same | mask).sum(axis=(1, 2))).max())
    assert np.mean(agreement) > 0.93  # interpolated once by us and twice by them
    assert min(agreement) > 0.8


def test_adaptive_prompting_finds_masks_of_the_grid_with_fewer_prompts(folder: Path) -> None:
    image = picture(60, 64)
    few = loaded(sam(folder, prompting="adaptive", points_per_side=8)).segment([image])[0]
    every = loaded(sam(folder, points_per_side=8)).segment([image])[0]
    assert 0 < len(few) < len(every)
    assert set(few.score.round(4)) <= set(every.score.round(4))


def test_limits_of_sam_are_kept(folder: Path) -> None:
    image = picture(60, 64)
    scores = loaded(sam(folder)).segment([image])[0].score
    least = float(np.median(scores))
    (found,) = loaded(sam(folder, min_score=least, max_area=0.6)).segment([image])
    assert 0 < len(found) < len(scores)
    assert found.score.min() >= least
    assert found.area.max() <= 0.6
    assert len(loaded(sam(folder, min_score=1.0)).segment([image])[0]) == 0


def test_medsam_asks_the_box_of_every_threshold_candidate(folder: Path) -> None:
    image = picture(60, 80)
    image[40:55, 50:75] += 100
    plain = MedSamConfig(model=str(folder), **LIMITLESS)
    boxes = ThresholdSegmenter(ThresholdConfig(), max_candidates=255, frame=64).segment([image])[0]
    (found,) = loaded(plain).segment([image])
    assert 1 < len(boxes) == len(found)
    assert (found.support == 1).all()
    (border,) = loaded(plain.model_copy(update={"box": "border"})).segment([image])
    assert len(border) == 1
    (flat,) = loaded(plain).segment([np.full((20, 30, 3), 90, np.uint8)])  # no threshold: border
    assert len(flat) == 1


def test_medsams_mask_equals_that_of_the_model_itself(folder: Path) -> None:
    import torch
    from transformers import SamModel

    image = picture(IMAGE_SIZE, IMAGE_SIZE)
    spread = image.astype(np.float32) - image.min()
    pixels = torch.from_numpy(spread / spread.max()).permute(2, 0, 1)[None]
    with torch.inference_mode():
        said = SamModel.from_pretrained(folder)(
            pixel_values=pixels,
            input_boxes=torch.tensor([[[0.0, 0.0, IMAGE_SIZE, IMAGE_SIZE]]]),
            multimask_output=False,
        )
    config = MedSamConfig(model=str(folder), box="border", **LIMITLESS)
    (found,) = loaded(config, frame=16).segment([image])
    np.testing.assert_array_equal(found.masks[0], said.pred_masks[0, 0, 0].numpy() > 0)


def test_images_keep_their_shape_for_sam_and_are_stretched_for_medsam() -> None:
    import torch

    wide = np.full((10, 40, 3), 255, np.uint8)
    wide[:, :20] = 51
    pixels, (extent,) = letterboxed([wide], side=64, device="cpu")
    assert extent == (1.0, 0.25)
    assert pixels.shape == (1, 3, 64, 64)
    assert (pixels[:, :, 16:] == 0).all()
    np.testing.assert_allclose(pixels[0, :, 3, 60], [2.2489, 2.4286, 2.64], atol=1e-3)
    square = stretched([wide], side=64, device="cpu")
    assert (square[0, 0, 60, 0], square[0, 0, 0, 63]) == (0, 1)
    # A mask of the wide half, in the model's square, fills half of the frame.
    logits = torch.full((1, 16, 16), -1.0)
    logits[:, :4, :8] = 1
    frame = in_frame(logits, extent, frame=32)[0, :28]
    np.testing.assert_array_equal(frame > 0, np.arange(32)[None].repeat(28, 0) < 16)


@pytest.mark.parametrize("shape", [(37, 90), (200, 150), (64, 64)])
def test_medsam_sees_the_pixels_of_its_authors_recipe(shape: tuple[int, int]) -> None:
    """bowang-lab/MedSAM, MedSAM_Inference.py: bicubic to uint8, then the range to [0, 1]."""
    from skimage import transform

    image = np.random.default_rng(0).integers(20, 240, (*shape, 3), dtype=np.uint8)
    square = transform.resize(
        image, (64, 64), order=3, preserve_range=True, anti_aliasing=True
    ).astype(np.uint8)
    low, high = int(square.min()), int(square.max())
    ours = stretched([image], side=64, device="cpu")[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ours * (high - low) + low, square, atol=1)


def test_where_the_weights_lie_is_not_in_the_key(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "tiny-sam"
    moved.parent.mkdir()
    moved.symlink_to(folder, target_is_directory=True)
    recipes = []
    for place in (folder, moved):
        config = SamConfig(model=str(place))
        weights = find_weights(config, FileHashes(), download=False)
        assert weights is not None
        assert set(weights.identity.files) == {"config.json", "model.safetensors"}
        assert weights.identity.id == model_id(config) == "tiny-sam"
        recipes.append(segmentation.recipe(MasksConfig(segmenter=config), weights.identity))
    assert recipes[0] == recipes[1]
    assert str(folder.parent) not in str(recipes[0])


def test_a_pickled_checkpoint_serves_where_there_is_no_safetensors(
    folder: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    torch.save(load_file(folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    image = picture(64, 64)
    expected, found = (loaded(sam(place)).segment([image])[0] for place in (folder, tmp_path))
    np.testing.assert_array_equal(found.masks, expected.masks)


@pytest.mark.parametrize("damage", ["garbage", "other model", "missing tensors"])
def test_files_that_are_no_sam_are_reported(folder: Path, tmp_path: Path, damage: str) -> None:
    from safetensors.torch import load_file, save_file

    said = json.loads((folder / "config.json").read_text())
    if damage == "other model":
        said["model_type"] = "clip"
    (tmp_path / "config.json").write_text(json.dumps(said))
    tensors = load_file(folder / "model.safetensors")
    if damage == "missing tensors":
        tensors.pop("mask_decoder.iou_token.weight")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    if damage == "garbage":
        (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="do not load as a SAM of Hugging Face"):
        loaded(sam(tmp_path))


def test_weights_that_are_not_here_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import HfApi, constants

    def unreachable(*args: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(HfApi, "model_info", unreachable)
    for config in (SamConfig(), MedSamConfig()):
        assert find_weights(config, FileHashes(), download=False) is None
        with pytest.raises(WeightsError, match=f"medfocus models pull {config.model}"):
            find_weights(config, FileHashes(), download=True)
    with pytest.raises(WeightsError, match=r"has no config\.json"):
        find_weights(SamConfig(model=str(tmp_path)), FileHashes(), download=False)
