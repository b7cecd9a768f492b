"""Whether an encoder gets to see what lies at the ends of a wide or a tall image."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image as Pillow

from medfocus_pipeline.config import EmbedConfig, LiteClipConfig, Runtime
from medfocus_pipeline.embedding import prepare, roi_seen
from medfocus_pipeline.encoders import Encoder, find_weights, load_encoder
from medfocus_pipeline.encoders.fit import cover, fitted, share_seen
from medfocus_pipeline.types import Fit, FocusMode, Image, Roi, View
from medfocus_pipeline.weights import FileHashes
from tests.fakes import FakeEncoder

SIZES = ((60, 180), (180, 60), (90, 120), (100, 100))


@pytest.fixture(scope="module")
def cropping() -> Encoder:
    """An encoder whose published way resizes the short side and cuts the rest off."""
    weights = find_weights(LiteClipConfig(), FileHashes(), download=False)
    assert weights is not None
    return load_encoder(LiteClipConfig(), weights, Runtime(device="cpu"))


def at_an_end(size: tuple[int, int], *, last: bool) -> tuple[Image, Roi]:
    """A bright finding at one end of the long side of a grey image, and its region."""
    mask = np.zeros(size, np.bool_)
    tall = size[0] > size[1]
    long = mask if tall else mask.T
    depth = max(size) // 8
    long[-depth:] = last
    long[:depth] |= not last
    image = np.full((*size, 3), 60, np.uint8)
    image[mask] = 250
    return image, Roi(mask, fallback=False)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("view", ["identity", "hflip"])
@pytest.mark.parametrize("mode", ["original", "segmented", "overlay", "mask", "crop", "dimmed"])
@pytest.mark.parametrize("fit", ["squeeze", "pad"])
@pytest.mark.parametrize("size", SIZES)
def test_a_region_at_an_end_is_in_sight(
    cropping: Encoder, size: tuple[int, int], fit: Fit, mode: FocusMode, view: View, *, last: bool
) -> None:
    image, roi = at_an_end(size, last=last)
    config = EmbedConfig(focus=mode, roi_parts=True, fit=fit, views=(view,))
    ready = prepare(image, roi, config, cropping)
    assert ready.seen == 1
    assert ready.covers is not None
    inside = ready.covers[0] > 250
    assert inside.any()
    brightest = 255 if mode == "mask" else 190 if mode == "overlay" else 250
    assert ready.pictures[0][inside].max() >= brightest - 5


@pytest.mark.parametrize("size", [(60, 180), (180, 60)])
def test_where_the_published_crop_cuts_a_region_off_that_is_said(
    cropping: Encoder, size: tuple[int, int]
) -> None:
    image, roi = at_an_end(size, last=True)
    config = EmbedConfig(focus="segmented", fit="crop", views=("identity", "hflip"))
    ready = prepare(image, roi, config, cropping)
    assert ready.seen == 0
    assert ready.covers is not None
    assert ready.covers.max() == 0
    assert ready.pictures.max() == 0  # as black as any other image's


def test_the_share_that_a_crop_leaves_is_that_of_the_window_it_takes(cropping: Encoder) -> None:
    """Of 3:1, the published way shows .875 of the short side, so .292 of the long one."""
    whole = Roi(np.ones((100, 300), np.bool_), fallback=False)
    config = EmbedConfig(focus="segmented", fit="crop", views=("identity",))
    assert roi_seen(whole, config, cropping) == pytest.approx(0.875 * 0.875 / 3, abs=0.02)


def test_the_view_that_shows_most_counts() -> None:
    mask = np.zeros((50, 50), np.bool_)
    mask[:, :5] = True
    edge = Roi(mask, fallback=False)
    only = EmbedConfig(views=("centre_crop",))
    assert roi_seen(edge, only, FakeEncoder()) == 0
    assert roi_seen(edge, EmbedConfig(views=("centre_crop", "identity")), FakeEncoder()) == 1


def test_pad_keeps_the_aspect_ratio_and_squeeze_fills_the_square() -> None:
    image = np.full((40, 80, 3), 200, np.uint8)
    encoder = FakeEncoder()
    padded, squeezed = (fitted(image, encoder, fit) for fit in ("pad", "squeeze"))
    assert padded.shape == squeezed.shape == (8, 8, 3)
    assert squeezed.min() == 200
    assert max(padded[0].max(), padded[-1].max()) < 10  # what a bicubic filter leaves at an edge
    assert padded[3:5].min() > 190
    np.testing.assert_array_equal(
        cover(np.ones((40, 80), np.bool_), encoder, "pad") > 127, padded[..., 0] > 100
    )


@pytest.mark.parametrize("fit", ["pad", "squeeze"])
@pytest.mark.parametrize("size", [(61, 97), (8, 3), (5, 5), (300, 300)])
def test_a_grey_picture_is_resized_as_pillow_resizes_its_three_channels(
    size: tuple[int, int], fit: Fit
) -> None:
    grey = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    image, side, encoder = np.repeat(grey[:, :, None], 3, axis=2), max(size), FakeEncoder()
    whole = image
    if fit == "pad":
        whole = np.zeros((side, side, 3), np.uint8)
        top, left = ((side - length) // 2 for length in size)
        whole[top : top + size[0], left : left + size[1]] = image
    pillows = Pillow.fromarray(whole).resize((encoder.side,) * 2, Pillow.Resampling.BICUBIC)
    np.testing.assert_array_equal(fitted(image, encoder, fit), np.asarray(pillows))


@pytest.mark.parametrize("fit", ["crop", "pad", "squeeze"])
@pytest.mark.parametrize("size", [(1, 40_000), (40_000, 2)])
def test_a_thin_region_does_not_fill_the_memory(
    cropping: Encoder, size: tuple[int, int], fit: Fit
) -> None:
    image = np.zeros((*size, 3), np.uint8)
    tracemalloc.start()  # numpy's arrays; a square of 40,000 pixels is 5 GB
    try:
        seen = fitted(image, cropping, fit)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen.shape == (cropping.side, cropping.side, 3)
    assert most < 300e6
    assert 0 <= share_seen(np.ones(size, np.bool_), cropping, fit) <= 1
