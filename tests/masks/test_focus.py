import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.masks.focus import focus, focus_mask, view
from medfocus_pipeline.types import Roi

MODES = ("original", "segmented", "overlay", "mask", "crop", "dimmed")
VIEWS = ("identity", "hflip", "centre_crop")


@st.composite
def pictures(draw):
    size = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    image = draw(arrays(np.uint8, (*size, 3)))
    mask = draw(arrays(np.bool_, size))
    mask[draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1))] = True
    return image, Roi(mask=mask, fallback=False)


@given(pictures(), st.sampled_from(MODES))
def test_a_focused_picture_is_rgb_and_its_mask_has_its_frame(picture, mode):
    image, roi = picture
    before = image.copy()
    focused, mask = focus(image, roi, mode), focus_mask(roi, mode)
    assert focused.dtype == np.uint8
    assert focused.shape == (*mask.shape, 3)
    assert mask.any()
    np.testing.assert_array_equal(image, before)


@given(pictures())
def test_each_mode_keeps_what_it_says(picture):
    image, roi = picture
    inside, outside = roi.mask, ~roi.mask
    np.testing.assert_array_equal(focus(image, roi, "original"), image)
    segmented = focus(image, roi, "segmented")
    np.testing.assert_array_equal(segmented[inside], image[inside])
    assert not segmented[outside].any()
    np.testing.assert_array_equal(focus(image, roi, "overlay")[outside], image[outside])
    white = focus(image, roi, "mask")
    assert (white[inside] == 255).all()
    assert not white[outside].any()
    dimmed = focus(image, roi, "dimmed")
    np.testing.assert_array_equal(dimmed[inside], image[inside])
    np.testing.assert_allclose(dimmed[outside], image[outside] * 0.3, atol=0.5)


def test_an_overlay_is_half_the_image_and_half_the_colour():
    image = np.full((2, 2, 3), 100, dtype=np.uint8)
    roi = Roi(mask=np.array([[True, False], [False, False]]), fallback=False)
    assert focus(image, roi, "overlay")[0, 0].tolist() == [65, 122, 177]


def test_a_crop_keeps_a_tenth_around_the_box_inside_the_image():
    image = np.arange(100 * 60 * 3, dtype=np.uint32).astype(np.uint8).reshape(100, 60, 3)
    mask = np.zeros((100, 60), dtype=np.bool_)
    mask[50:80, 0:20] = True
    roi = Roi(mask=mask, fallback=False)
    np.testing.assert_array_equal(focus(image, roi, "crop"), image[47:83, 0:22])
    np.testing.assert_array_equal(focus_mask(roi, "crop"), mask[47:83, 0:22])


@given(pictures())
def test_a_crop_loses_nothing_of_the_roi(picture):
    _, roi = picture
    assert focus_mask(roi, "crop").sum() == roi.mask.sum()


@given(pictures(), st.sampled_from(VIEWS))
def test_a_view_treats_image_and_mask_alike(picture, name):
    image, roi = picture
    painted = np.repeat(roi.mask[..., None], 3, axis=2).astype(np.uint8)
    mask = view(roi.mask, name)
    np.testing.assert_array_equal(view(painted, name), np.repeat(mask[..., None], 3, axis=2))
    assert mask.flags.c_contiguous
    assert mask.size > 0
    assert view(image, name).dtype == np.uint8


@given(pictures())
def test_two_flips_are_none(picture):
    image, _ = picture
    np.testing.assert_array_equal(view(view(image, "hflip"), "hflip"), image)
    np.testing.assert_array_equal(view(image, "identity"), image)


def test_a_centre_crop_keeps_the_central_four_fifths():
    image = np.arange(10 * 20 * 3, dtype=np.uint16).astype(np.uint8).reshape(10, 20, 3)
    np.testing.assert_array_equal(view(image, "centre_crop"), image[1:9, 2:18])


def test_unknown_names_list_the_choices():
    image, roi = np.zeros((2, 2, 3), np.uint8), Roi(np.ones((2, 2), np.bool_), fallback=True)
    with pytest.raises(ConfigError, match=r"'zoom'.*original, segmented, overlay, mask, crop"):
        focus(image, roi, "zoom")
    with pytest.raises(ConfigError, match=r"'vflip'.*identity, hflip, centre_crop"):
        view(image, "vflip")


def test_a_roi_of_another_image_is_refused():
    with pytest.raises(ValueError, match="differ in size"):
        focus(np.zeros((2, 3, 3), np.uint8), Roi(np.ones((2, 2), np.bool_), fallback=True), "mask")
