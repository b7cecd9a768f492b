import numpy as np
import pytest
from PIL import Image as PillowImage

from medfocus_pipeline.config import MasksConfig, Runtime, Sam2Config
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.sam import sam2
from medfocus_pipeline.sam.sam2 import build_model, load_checkpoint
from medfocus_pipeline.sam.sam_pixels import normalised
from medfocus_pipeline.segmenters import find_weights, load_segmenter
from medfocus_pipeline.segmenters.sam2_decoder import PromptDecoder
from medfocus_pipeline.segmenters.sam2_segmenter import Sam2Segmenter
from medfocus_pipeline.types import Candidates
from medfocus_pipeline.weights import FileHashes
from tests.segmenters.conftest import FRAME, write_config
from tests.side_by_side import alone_and_together, check_equal

EVERYTHING = Sam2Config(
    size="tiny",
    points_per_side=3,
    prompting="grid",
    min_score=0,
    min_stability=0,
    min_area=0,
    max_area=1,
    duplicate_iou=1,
    precision="fp32",
)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise and a bright square: nothing to recognise, nothing constant."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 120, (height, width, 3), dtype=np.uint8)
    image[height // 4 : height // 2, width // 4 : width // 2] += 100
    return image


def segmenter(model, config: Sam2Config = EVERYTHING, *, frame: int = FRAME) -> Sam2Segmenter:
    return Sam2Segmenter(model, config, max_candidates=255, frame=frame)


def reference(model, image: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Low-resolution masks and scores of SAM2ImagePredictor for a grid of single points."""
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    predictor = SAM2ImagePredictor(model)
    predictor._bb_feat_sizes = [(model.image_size // stride,) * 2 for stride in (4, 8, 16)]
    predictor.set_image(image)
    height, width = image.shape[:2]
    masks, scores = [], []
    for row in range(side):
        for column in range(side):
            point = [(column + 0.5) / side * width, (row + 0.5) / side * height]
            _, score, logits = predictor.predict(np.array([point]), np.array([1]))
            masks.append(logits > 0)
            scores.append(score)
    return np.concatenate(masks), np.concatenate(scores)


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of every mask of `a` with every mask of `b`."""
    a, b = a.reshape(len(a), -1).astype(int), b.reshape(len(b), -1).astype(int)
    shared = a @ b.T
    return shared / (a.sum(1)[:, None] + b.sum(1)[None] - shared)


def check_same(found: Candidates, masks: np.ndarray, scores: np.ndarray) -> None:
    """All of the masks that are not empty, and no others, with their scores."""
    filled = masks.any(axis=(1, 2))
    masks, scores = masks[filled], scores[filled]
    assert len(found) == len(masks) > 9
    same = (overlap(found.masks, masks) >= 0.99) & (
        np.abs(found.score[:, None] - scores[None]) < 1e-4
    )
    assert same.any(axis=0).all()
    assert same.any(axis=1).all()


# The predictor scripts its transforms; the segmenter does not use them.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
@pytest.mark.parametrize("size", [(128, 128), (50, 91), (300, 200)])
def test_masks_equal_those_of_the_image_predictor(tiny_model, size):
    image = picture(*size)
    masks, scores = reference(tiny_model, image, side=3)
    found = segmenter(tiny_model).segment([image])[0]
    check_same(found, masks, scores)
    assert 0 < found.area.min() < found.area.max() < 1


@pytest.fixture
def medsam2(monkeypatch, tiny_yaml, tiny_checkpoint):
    """A configuration whose size is MedSAM2's, at its 512 pixels, but for the number of weights."""
    monkeypatch.setattr(sam2, "_config_file", lambda _: tiny_yaml)
    return EVERYTHING.model_copy(update={"size": "medsam2", "checkpoint": tiny_checkpoint})


# The predictor scripts its transforms; the segmenter does not use them.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
@pytest.mark.parametrize("size", [(50, 91), (600, 700)])
def test_medsam2_answers_as_the_package_does_to_the_picture_that_its_authors_make(medsam2, size):
    weights = find_weights(medsam2, FileHashes(), download=False)
    masks = MasksConfig(segmenter=medsam2, max_candidates=255, frame=128)
    image = picture(*size)
    found = load_segmenter(masks, weights, Runtime(device="cpu")).segment([image])[0]
    model = sam2.load_model(medsam2, weights)
    assert model.image_size == 512
    # Without a filter's name, as medsam2_infer_3D_CT.py of bowang-lab/MedSAM2 does it.
    square = np.array(PillowImage.fromarray(image).resize((512, 512)))
    check_same(found, *reference(model, square, side=3))


@pytest.mark.parametrize("size", [(512, 512), (50, 91), (600, 700)])
def test_medsam2_takes_the_pixels_that_pillow_makes_by_default(size):
    image = picture(*size)
    square = np.asarray(PillowImage.fromarray(image).resize((512, 512)))
    expected = (square / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    found = normalised([image], side=512, bicubic=True)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_batch_gives_what_each_image_gives_alone(tiny_model):
    images = [picture(64, 64, seed=1), picture(40, 90, seed=2), picture(1, 1, seed=3)]
    tool = segmenter(tiny_model)
    for image, found in zip(images, tool.segment(images), strict=True):
        alone = tool.segment([image])[0]
        np.testing.assert_array_equal(found.boxes, alone.boxes)
        np.testing.assert_allclose(found.score, alone.score, atol=1e-5)
        assert np.diag(overlap(found.masks, alone.masks)).min() >= 0.99


@pytest.mark.parametrize("prompting", ["grid", "adaptive"])
def test_several_threads_get_what_one_gets(tiny_model, prompting):
    config = EVERYTHING.model_copy(update={"prompting": prompting, "points_per_side": 8})
    inputs = [[picture(64, 64, seed=1)], [picture(40, 90, seed=2), picture(1, 1, seed=3)]]
    for alone, together in alone_and_together(segmenter(tiny_model, config).segment, inputs):
        check_equal(alone, together)


def test_the_same_image_gives_the_same_masks_again(tiny_model):
    tool, image = segmenter(tiny_model), picture(64, 64)
    first, second = tool.segment([image, image])
    np.testing.assert_array_equal(first.masks, second.masks)
    np.testing.assert_array_equal(first.score, second.score)


@pytest.fixture
def adaptive() -> Sam2Config:
    return EVERYTHING.model_copy(update={"prompting": "adaptive", "points_per_side": 8})


@pytest.fixture
def prompts(monkeypatch) -> list[int]:
    """How many prompts were decoded at a time."""
    asked: list[int] = []
    real = PromptDecoder.attend

    def attend(self, image, prompts):
        asked.append(len(prompts))
        return real(self, image, prompts)

    monkeypatch.setattr(PromptDecoder, "attend", attend)
    return asked


def test_adaptive_prompting_finds_masks_of_the_grid_with_a_quarter_of_the_prompts(
    tiny_model, adaptive, prompts
):
    image = picture(90, 120)
    found = segmenter(tiny_model, adaptive).segment([image])[0]
    assert sum(prompts) == 16
    full = adaptive.model_copy(update={"prompting": "grid"})
    all_found = segmenter(tiny_model, full).segment([image])[0]
    assert sum(prompts) == 16 + 64
    assert 16 < len(found) < len(all_found)
    assert overlap(found.masks, all_found.masks).max(axis=1).min() >= 0.99


def test_adaptive_prompting_repeats_exactly(tiny_model, adaptive):
    tool, image = segmenter(tiny_model, adaptive), picture(64, 64)
    first, second = (tool.segment([image])[0] for _ in range(2))
    for name in ("masks", "score", "stability", "support", "area", "boxes"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_adaptive_prompting_asks_also_where_nothing_is_found(tiny_model, adaptive, prompts):
    config = adaptive.model_copy(update={"min_score": 1.0})
    assert len(segmenter(tiny_model, config).segment([picture(64, 64)])[0]) == 0
    assert sum(prompts) == 16


def test_masks_that_other_prompts_give_too_have_more_support(tiny_model):
    config = EVERYTHING.model_copy(update={"points_per_side": 6})
    found = segmenter(tiny_model, config).segment([picture(96, 96)])[0]
    assert found.support.dtype == np.float32
    assert ((found.support >= 0) & (found.support < 1)).all()
    agreement = overlap(found.masks, found.masks)
    often, seldom = agreement.mean(axis=1).argmax(), agreement.mean(axis=1).argmin()
    assert found.support[often] > found.support[seldom]


def test_bfloat16_finds_nearly_the_same_masks(tiny_model):
    image = picture(96, 96)
    exact = segmenter(tiny_model).segment([image])[0]
    rounded = segmenter(tiny_model, EVERYTHING.model_copy(update={"precision": "bf16"}))
    found = rounded.segment([image])[0]
    assert overlap(found.masks, exact.masks).max(axis=1).mean() >= 0.95


def test_masks_come_in_the_frame_that_was_asked_for(tiny_model):
    found = segmenter(tiny_model, frame=2 * FRAME).segment([picture(40, 60)])[0]
    assert found.masks.shape == (len(found), 2 * FRAME, 2 * FRAME)
    assert (found.boxes[:, 2:] <= [60, 40]).all()
    assert len(found) > 0


def test_limits_and_number_of_candidates_are_kept(tiny_model):
    image = picture(64, 64)
    scores = segmenter(tiny_model).segment([image])[0].score
    config = EVERYTHING.model_copy(
        update={"min_score": float(np.median(scores)), "duplicate_iou": 0.9}
    )
    tool = Sam2Segmenter(tiny_model, config, max_candidates=4, frame=FRAME)
    found = tool.segment([image])[0]
    assert 0 < len(found) <= 4
    assert (found.score >= config.min_score).all()
    assert (np.diff(found.score) <= 0).all()


def test_no_mask_good_enough_is_no_candidate(tiny_model):
    config = EVERYTHING.model_copy(update={"min_score": 1.0})
    found = segmenter(tiny_model, config).segment([picture(30, 20)])[0]
    assert len(found) == 0
    assert found.masks.shape == (0, FRAME, FRAME)
    assert found.boxes.shape == (0, 4)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 500, 3), (64, 64, 3)])
def test_a_black_image_is_segmented_without_complaint(tiny_model, adaptive, shape):
    found = segmenter(tiny_model, adaptive).segment([np.zeros(shape, dtype=np.uint8)])[0]
    assert np.isfinite(found.score).all()


def test_no_images_give_no_candidates(tiny_model):
    assert segmenter(tiny_model).segment([]) == []


@pytest.fixture
def tiny_size(monkeypatch, tiny_yaml):
    """The size `tiny` is the test's own model."""
    size = sam2._Size(str(tiny_yaml), "facebook/sam2.1-hiera-tiny", "sam2.1_hiera_tiny.pt")
    monkeypatch.setitem(sam2._SIZES, "tiny", size)


@pytest.mark.usefixtures("tiny_size")
def test_a_local_checkpoint_is_found_loaded_and_used(tiny_model, tiny_checkpoint, tmp_path):
    from safetensors.torch import save_file

    image = picture(64, 64)
    expected = segmenter(tiny_model).segment([image])[0]
    other = tmp_path / "tiny.safetensors"
    save_file(tiny_model.state_dict(), other)
    for path in (tiny_checkpoint, other):
        config = EVERYTHING.model_copy(update={"checkpoint": path})
        masks = MasksConfig(segmenter=config, max_candidates=255, frame=FRAME)
        weights = find_weights(config, FileHashes(), download=False)
        assert weights.identity.id == "sam2.1-hiera-tiny"
        assert str(tmp_path) not in str(weights.identity)
        found = load_segmenter(masks, weights, Runtime(device="cpu")).segment([image])[0]
        np.testing.assert_array_equal(found.masks, expected.masks)


def test_a_renamed_checkpoint_keeps_its_identity(tiny_checkpoint, tmp_path):
    renamed = tmp_path / "renamed.pt"
    renamed.write_bytes(tiny_checkpoint.read_bytes())
    identities = [
        find_weights(Sam2Config(checkpoint=path), FileHashes(), download=False).identity
        for path in (tiny_checkpoint, renamed)
    ]
    assert identities[0] == identities[1]


def test_a_checkpoint_of_another_width_is_refused(tiny_checkpoint, tmp_path):
    wider = build_model(write_config(tmp_path / "wider.yaml", width=128))
    with pytest.raises(WeightsError, match=r"another model than sam2.1-hiera-tiny.*Set `size`"):
        load_checkpoint(wider, tiny_checkpoint, name="sam2.1-hiera-tiny")


def test_a_checkpoint_with_other_weights_is_refused(tiny_model, tmp_path):
    import torch

    path = tmp_path / "other.pt"
    torch.save({"model": {"layer.weight": torch.zeros(2)}}, path)
    with pytest.raises(WeightsError, match=r"\d+ weights are missing and 1 are unknown"):
        load_checkpoint(tiny_model, path, name="sam2.1-hiera-tiny")


@pytest.mark.parametrize("name", ["checkpoint.pt", "checkpoint.safetensors"])
@pytest.mark.parametrize("damage", ["garbage", "empty", "truncated", "folder", "no state"])
def test_a_corrupt_checkpoint_is_reported(tiny_model, tiny_checkpoint, tmp_path, name, damage):
    import torch

    path = tmp_path / name
    if damage == "folder":
        path.mkdir()
    elif damage == "no state":
        torch.save([1, 2], path)
    else:
        whole = tiny_checkpoint.read_bytes()
        damaged = {"garbage": b"\x00not weights", "empty": b"", "truncated": whole[:5000]}
        path.write_bytes(damaged[damage])
    with pytest.raises(WeightsError, match=r"cannot be read.*PROFILE=offline"):
        load_checkpoint(tiny_model, path, name="sam2.1-hiera-tiny")


def test_a_missing_checkpoint_is_reported(tmp_path):
    config = Sam2Config(checkpoint=tmp_path / "nowhere.pt")
    with pytest.raises(WeightsError, match="no such file"):
        find_weights(config, FileHashes(), download=False)


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    from huggingface_hub import HfApi, constants

    def unreachable(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(HfApi, "model_info", unreachable)


@pytest.mark.usefixtures("no_hub")
def test_weights_that_are_not_cached_are_none_until_they_may_be_downloaded():
    assert find_weights(Sam2Config(), FileHashes(), download=False) is None


@pytest.mark.usefixtures("no_hub")
def test_an_unreachable_hub_is_reported_with_the_way_out():
    with pytest.raises(WeightsError, match=r"medfocus models pull.*PROFILE=offline"):
        find_weights(Sam2Config(), FileHashes(), download=True)
