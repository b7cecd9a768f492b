import numpy as np
import pytest

from medfocus_pipeline.config import MasksConfig, Runtime, ThresholdConfig
from medfocus_pipeline.masks.roi import choose_roi, iou
from medfocus_pipeline.segmenters import find_weights, load_segmenter
from medfocus_pipeline.segmenters.threshold import ThresholdSegmenter
from medfocus_pipeline.types import ModelIdentity
from medfocus_pipeline.weights import FileHashes


def segmenter(config: ThresholdConfig | None = None, *, most: int = 16) -> ThresholdSegmenter:
    return ThresholdSegmenter(config or ThresholdConfig(), max_candidates=most, frame=64)


def disc(height: int, width: int, *, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (columns - 0.6 * width) ** 2 + (rows - 0.4 * height) ** 2 <= radius**2


def picture(mask: np.ndarray, *, inside: int, outside: int) -> np.ndarray:
    grey = np.where(mask, inside, outside) + np.random.default_rng(0).integers(0, 20, mask.shape)
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize(("inside", "outside"), [(200, 40), (40, 200)])
def test_a_bright_and_a_dark_object_are_found_alike(inside, outside):
    mask = disc(120, 200, radius=25)
    found = segmenter().segment([picture(mask, inside=inside, outside=outside)])[0]
    assert iou(choose_roi(found, "best", size=mask.shape).mask, mask) > 0.9
    assert found.score[0] > 0.7


def test_holes_are_filled():
    ring = disc(100, 100, radius=30) & ~disc(100, 100, radius=15)
    found = segmenter().segment([picture(ring, inside=200, outside=30)])[0]
    full = disc(100, 100, radius=30)
    best = max(iou(choose_roi(found, "largest", size=(100, 100)).mask, full), 0)
    assert best > 0.9


def test_an_object_inside_beats_one_on_the_border():
    inside = disc(100, 100, radius=12)
    border = np.zeros((100, 100), dtype=np.bool_)
    border[:, :15] = True
    found = segmenter().segment([picture(inside | border, inside=200, outside=30)])[0]
    assert iou(choose_roi(found, "best", size=(100, 100)).mask, inside) > 0.8


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("shape", [(1, 1, 3), (60, 40, 3)])
def test_a_constant_image_has_no_candidates(level, shape):
    found = segmenter().segment([np.full(shape, level, dtype=np.uint8)])[0]
    assert len(found) == 0
    assert found.masks.shape == (0, 64, 64)


def test_noise_keeps_the_contract():
    noise = np.random.default_rng(1).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    config = ThresholdConfig(smoothing=0, min_area=0)
    found = segmenter(config, most=5).segment([noise, noise[:1, :1]])[0]
    assert 0 < len(found) <= 5
    assert found.masks.any(axis=(1, 2)).all()
    assert (np.diff(found.score) <= 0).all()
    for share in (found.score, found.stability, found.support, found.area):
        assert share.dtype == np.float32
        assert ((share >= 0) & (share <= 1)).all()


def test_a_blurred_outline_is_less_stable_than_a_sharp_one():
    image = picture(disc(100, 100, radius=30), inside=200, outside=40)
    sharp, blurred = (
        segmenter(ThresholdConfig(smoothing=smoothing)).segment([image])[0]
        for smoothing in (1.0, 8.0)
    )
    assert blurred.stability[0] < sharp.stability[0]


def test_it_needs_no_weights():
    config = MasksConfig(segmenter=ThresholdConfig(), frame=64)
    weights = find_weights(config.segmenter, FileHashes(), download=False)
    assert weights.identity == ModelIdentity(id="threshold")
    tool = load_segmenter(config, weights, Runtime())
    assert len(tool.segment([picture(disc(64, 64, radius=12), inside=200, outside=40)])[0]) > 0
