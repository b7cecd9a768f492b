"""SAM-Adapter: its layers, its file, and the segmenter."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medfocus_pipeline import segmentation
from medfocus_pipeline.config import MasksConfig, Runtime, SamAdapterConfig
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.sam.sam_pixels import normalised
from medfocus_pipeline.segmenters import find_weights, load_segmenter, model_id
from medfocus_pipeline.segmenters.sam_adapter import (
    ADAPTER,
    AdapterMetadata,
    SamAdapterSegmenter,
    new_adapted,
    read_metadata,
    save_adapter,
)
from medfocus_pipeline.segmenters.sam_adapter_layers import AdaptedSam, high_frequencies
from medfocus_pipeline.types import Image
from medfocus_pipeline.weights import FileHashes
from tests.segmenters.sam_models import IMAGE_SIZE, MASK_SIDE, random_sam, write_sam
from tests.side_by_side import alone_and_together, check_equal


def adapted(*, width: int = 32, up: float = 0.5) -> AdaptedSam:
    """With a shared map that is not zero, so that the adapters count."""
    import torch

    sam = new_adapted(random_sam(width=width), reduction=4, low_frequencies=0.25, seed=3)
    with torch.no_grad():
        sam.layers["up"].weight.normal_(std=up, generator=torch.Generator().manual_seed(1))
    return sam


def picture(height: int, width: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def tensors(seed: int = 0) -> Any:
    return normalised([picture(50, 70, seed)], side=IMAGE_SIZE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sam(tmp_path_factory.mktemp("sam") / "tiny-sam")


@pytest.fixture
def metadata(folder: Path) -> AdapterMetadata:
    digest = FileHashes().sha256(folder / "model.safetensors")
    return AdapterMetadata(
        base="tiny-sam", base_sha256=digest, reduction=4, low_frequencies=0.25, trained={"steps": 7}
    )


@pytest.fixture
def adapter(tmp_path: Path, metadata: AdapterMetadata) -> Path:
    save_adapter(tmp_path / "a.safetensors", adapted(), metadata)
    return tmp_path / "a.safetensors"


def config(folder: Path, adapter: Path) -> SamAdapterConfig:
    return SamAdapterConfig(
        adapter=adapter, model=str(folder), min_area=0, max_area=1, precision="fp32"
    )


def test_new_adapters_leave_sam_as_it_is() -> None:
    import torch

    sam = new_adapted(random_sam(), reduction=4, low_frequencies=0.25, seed=0)
    with torch.inference_mode():
        logits, scores = sam.answer(tensors())
        said = random_sam()(pixel_values=tensors(), multimask_output=False)
    assert logits.shape == (1, MASK_SIDE, MASK_SIDE)
    torch.testing.assert_close(logits, said.pred_masks[:, 0, 0])
    torch.testing.assert_close(scores, said.iou_scores[:, 0, 0])


def test_every_block_gets_the_prompt_of_the_formula() -> None:
    import torch

    sam = adapted()
    encoder, layers, pixels = sam.model.vision_encoder, sam.layers, tensors()
    with torch.inference_mode():
        tokens = encoder.patch_embed(pixels)
        edges = layers["frequencies"](high_frequencies(pixels, 0.25)).permute(0, 2, 3, 1)
        features = layers["embedding"](tokens) + edges
        x = tokens + encoder.pos_embed
        for tune, block in zip(layers["tune"], encoder.layers, strict=True):
            middle = tune(features)
            gelu = middle * 0.5 * (1 + torch.erf(middle / 2**0.5))
            x = block(x + gelu @ layers["up"].weight.T + layers["up"].bias)
        said = sam.model(image_embeddings=encoder.neck(x), multimask_output=False)
        logits, _ = sam.answer(pixels)
    torch.testing.assert_close(logits, said.pred_masks[:, 0, 0], atol=1e-4, rtol=1e-4)


def test_low_frequencies_are_taken_out_and_high_ones_stay() -> None:
    import torch

    x = torch.arange(32) / 32 * 2 * torch.pi
    slow, fast = torch.cos(3 * x), torch.cos(14 * x)
    image = (5 + slow + fast).expand(1, 3, 32, 32)
    torch.testing.assert_close(
        high_frequencies(image, 0.25), fast.abs().expand(1, 3, 32, 32), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(high_frequencies(image, 0.0), image.abs(), atol=1e-4, rtol=0)


def test_only_adapters_and_mask_decoder_get_gradients() -> None:
    sam = adapted()
    sam.freeze()
    logits, scores = sam.answer(tensors())
    (logits.square().mean() + scores.mean()).backward()
    assert all(weight.grad is not None for weight in sam.trained().values())
    trained = {id(weight) for weight in sam.trained().values()}
    frozen = [weight for weight in sam.model.parameters() if id(weight) not in trained]
    assert len(frozen) > 40
    assert all(weight.grad is None and not weight.requires_grad for weight in frozen)
    assert {name.split(".")[0] for name in sam.trained()} == {"adapter", "mask_decoder"}


def test_several_threads_get_what_one_gets(folder: Path, adapter: Path) -> None:
    tool = SamAdapterSegmenter(adapted(), config(folder, adapter), max_candidates=16, frame=32)
    inputs = [[picture(50, 70)], [picture(90, 30, 1), picture(1, 1, 2)], [picture(64, 64, 3)]]
    for alone, together in alone_and_together(tool.segment, inputs):
        check_equal(alone, together)


def test_a_saved_adapter_gives_the_same_masks(folder: Path, adapter: Path) -> None:
    wanted = config(folder, adapter)
    images = [picture(50, 70), np.zeros((1, 1, 3), np.uint8), picture(90, 30, 1)]
    before = SamAdapterSegmenter(adapted(), wanted, max_candidates=16, frame=32).segment(images)
    weights = find_weights(wanted, FileHashes(), download=False)
    assert weights is not None
    masks = MasksConfig(segmenter=wanted, frame=32)
    after = load_segmenter(masks, weights, Runtime(device="cpu"))
    assert after.segment([]) == []
    assert after.batch_size == 1
    for image, one, other in zip(images, before, after.segment(images), strict=True):
        assert len(one) == len(other) <= 1
        np.testing.assert_array_equal(one.masks, other.masks)
        np.testing.assert_array_equal(one.score, other.score)
        (alone,) = after.segment([image])
        np.testing.assert_array_equal(alone.masks, other.masks)
    assert len(before[0]) == 1
    assert before[0].masks.shape == (1, 32, 32)
    assert 0 <= before[0].score[0] <= 1


def test_the_file_says_what_it_is_and_holds_what_was_trained_alone(
    adapter: Path, metadata: AdapterMetadata
) -> None:
    from safetensors.torch import load_file

    assert read_metadata(adapter) == metadata
    assert set(load_file(adapter)) == set(adapted().trained())


def test_the_bytes_of_adapter_and_sam_are_the_identity(
    folder: Path, adapter: Path, tmp_path: Path, metadata: AdapterMetadata
) -> None:
    renamed, other = tmp_path / "b.safetensors", tmp_path / "c.safetensors"
    renamed.write_bytes(adapter.read_bytes())
    save_adapter(other, adapted(up=0.6), metadata)
    recipes = []
    for path in (adapter, renamed, other):
        wanted = config(folder, path)
        weights = find_weights(wanted, FileHashes(), download=False)
        assert weights is not None
        assert weights.identity.id == model_id(wanted)
        assert weights.identity.files[ADAPTER] == FileHashes().sha256(path)
        recipes.append(segmentation.recipe(MasksConfig(segmenter=wanted), weights.identity))
    assert recipes[0] == recipes[1] != recipes[2]
    assert str(tmp_path) not in str(recipes[0])


def test_another_sam_than_the_adapters_own_is_refused(adapter: Path, tmp_path: Path) -> None:
    other = write_sam(tmp_path / "other", seed=1)
    with pytest.raises(WeightsError, match=r"trained on tiny-sam.*segmenter\.model=FOLDER_OR_ID"):
        find_weights(config(other, adapter), FileHashes(), download=False)


def test_a_sam_that_was_in_a_folder_must_be_named(adapter: Path) -> None:
    wanted = SamAdapterConfig(adapter=adapter)
    with pytest.raises(WeightsError, match=r"a folder 'tiny-sam'.*segmenter\.model=FOLDER"):
        find_weights(wanted, FileHashes(), download=False)


def test_an_adapter_without_its_sam_is_known_to_be_missing(
    tmp_path: Path, metadata: AdapterMetadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    path = tmp_path / "a.safetensors"
    save_adapter(path, adapted(), metadata.model_copy(update={"base": "facebook/sam-vit-base"}))
    wanted = SamAdapterConfig(adapter=path)
    assert find_weights(wanted, FileHashes(), download=False) is None


@pytest.mark.parametrize("damage", ["missing", "garbage", "no metadata"])
def test_what_is_no_adapter_is_reported(folder: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.safetensors"
    if damage == "garbage":
        path.write_bytes(b"nothing")
    elif damage == "no metadata":
        path.write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(WeightsError, match=r"no adapter.*medfocus train-adapter"):
        find_weights(config(folder, path), FileHashes(), download=False)


def test_an_adapter_of_another_width_does_not_fit(
    folder: Path, tmp_path: Path, metadata: AdapterMetadata
) -> None:
    path = tmp_path / "wide.safetensors"
    save_adapter(path, adapted(width=64), metadata)
    wanted = config(folder, path)
    weights = find_weights(wanted, FileHashes(), download=False)
    assert weights is not None
    with pytest.raises(WeightsError, match="does not fit tiny-sam"):
        load_segmenter(MasksConfig(segmenter=wanted), weights, Runtime(device="cpu"))


def test_weights_that_are_not_finite_are_not_written(
    tmp_path: Path, metadata: AdapterMetadata
) -> None:
    import torch

    sam = adapted()
    with torch.no_grad():
        sam.layers["up"].bias.fill_(torch.nan)
    with pytest.raises(WeightsError, match=r"not finite \(adapter\.up\.bias\).*diverged"):
        save_adapter(tmp_path / "a.safetensors", sam, metadata)
    assert not list(tmp_path.iterdir())
