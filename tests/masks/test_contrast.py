import numpy as np
import pytest

from medfocus_pipeline.masks.contrast import contrast
from medfocus_pipeline.types import Image


def disc(side: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    return np.hypot(x, y) < radius * side


def picture(inside: int, outside: int, *, side: int = 128) -> Image:
    grey = np.where(disc(side, 0.2), inside, outside).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def test_a_region_darker_than_its_ring_counts_like_one_brighter() -> None:
    mask = disc(128, 0.2)[None]
    dark, bright = (contrast(mask, picture(*levels))[0] for levels in ((80, 160), (160, 80)))
    assert dark == pytest.approx(bright, rel=0.1)
    assert dark > 2


def test_more_difference_is_more_contrast_and_none_is_none() -> None:
    mask = disc(128, 0.2)[None]
    faint, plain = (contrast(mask, picture(100, level))[0] for level in (105, 150))
    assert 0 < faint < plain
    assert contrast(mask, picture(100, 100))[0] == 0


def test_a_mask_with_nothing_around_it_or_in_it_has_no_contrast() -> None:
    masks = np.stack([np.ones((64, 64), np.bool_), np.zeros((64, 64), np.bool_)])
    np.testing.assert_array_equal(contrast(masks, picture(10, 200)), [0, 0])
    assert contrast(masks[:0], picture(10, 200)).shape == (0,)


@pytest.mark.parametrize("side", [64, 96, 256])
def test_the_size_of_frame_and_image_matters_little(side: int) -> None:
    expected = contrast(disc(128, 0.2)[None], picture(80, 160))[0]
    found = contrast(disc(side, 0.2)[None], picture(80, 160, side=300))[0]
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, rel=0.4)
