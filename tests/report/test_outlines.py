"""Pictures for the page: small, whole, and outlined where they should be."""

import io

import numpy as np
import PIL.Image

from medfocus_pipeline.report.content import Picture
from medfocus_pipeline.report.outlines import (
    CANDIDATES,
    ROI,
    SIDE,
    THUMBNAIL,
    coloured,
    encoded,
    fitted,
    outlined,
)
from medfocus_pipeline.seeding import generator


def noise(height: int, width: int) -> np.ndarray:
    return generator("picture").integers(0, 256, (height, width, 3), np.uint8)


def decoded(picture: Picture) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(picture.content)) as file:
        assert file.format == "WEBP"
        return np.asarray(file.convert("RGB"))


def test_a_large_picture_is_made_smaller_and_keeps_its_shape() -> None:
    picture = encoded(noise(600, 300), alt="x")
    assert (picture.width, picture.height) == (SIDE // 2, SIDE)
    assert decoded(picture).shape == (SIDE, SIDE // 2, 3)
    assert picture.media_type == "image/webp"


def test_a_small_picture_is_left_at_its_size() -> None:
    picture = encoded(np.full((20, 30, 3), 90, np.uint8), alt="x")
    assert (picture.width, picture.height) == (30, 20)
    assert abs(decoded(picture).astype(int) - 90).max() <= 3


def test_even_noise_stays_below_a_bound() -> None:
    assert len(encoded(noise(2000, 2000), alt="x").content) < 60_000
    assert len(encoded(noise(2000, 2000), alt="x", side=THUMBNAIL).content) < 3_000


def test_a_line_of_pixels_is_a_picture_too() -> None:
    picture = encoded(noise(1, 900), alt="x")
    assert (picture.width, picture.height) == (SIDE, 1)


def test_outlines_are_inside_the_mask_and_leave_the_picture_alone() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    mask = np.zeros((20, 30), bool)
    mask[5:15, 5:25] = True
    drawn = outlined(image, [(mask, ROI)], width=2)
    rows, columns = np.nonzero((drawn == ROI).all(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 29, 10, 49)
    assert not drawn[14:26, 14:46].any()
    assert not image.any()


def test_the_best_candidate_is_drawn_last() -> None:
    masks = np.ones((3, 8, 8), bool)
    assert [colour for _, colour in coloured(masks)] == list(CANDIDATES[2::-1])
    drawn = outlined(np.zeros((8, 8, 3), np.uint8), coloured(masks), width=1)
    assert tuple(drawn[0, 0]) == CANDIDATES[0]


def test_a_picture_is_fitted_into_a_square() -> None:
    assert fitted(noise(100, 50), 20).shape == (20, 10, 3)
    assert fitted(noise(10, 20), 40).shape == (20, 40, 3)
