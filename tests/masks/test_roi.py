from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.masks.candidates import select
from medfocus_pipeline.masks.roi import choose_roi, iou
from medfocus_pipeline.types import Candidates, RoiRule
from tests.fakes import blank

RULES = get_args(RoiRule)
SIZES = st.tuples(st.integers(1, 100), st.integers(1, 100))


def square(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[y : y + side, x : x + side] = True
    return mask


def candidates(*parts: tuple[np.ndarray, float]) -> Candidates:
    masks = np.array([mask for mask, _ in parts], dtype=np.bool_).reshape(-1, 64, 64)
    score = np.array([score for _, score in parts], dtype=np.float32)
    return select(masks, score, score, image=blank((64, 64)), max_candidates=9)


CORNER, LARGE, MIDDLE = square(2, 2, 8), square(30, 30, 30), square(28, 26, 10)
THREE = candidates((CORNER, 0.9), (LARGE, 0.6), (MIDDLE, 0.8))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("best", CORNER),
        ("largest", LARGE),
        ("central", MIDDLE),
        ("union", CORNER | MIDDLE),
        ("text", LARGE),
    ],
)
def test_each_rule_picks_what_it_says(rule, expected):
    roi = choose_roi(THREE, rule, size=(64, 64), similarity=np.float32([0.1, 0.2, 0.3]))
    np.testing.assert_array_equal(roi.mask, expected)
    assert not roi.fallback


@pytest.mark.parametrize("rule", RULES)
def test_without_candidates_the_roi_is_the_whole_image(rule):
    roi = choose_roi(candidates(), rule, size=(3, 5))
    assert roi.fallback
    assert roi.mask.shape == (3, 5)
    assert roi.mask.all()


@given(
    st.integers(1, 4).flatmap(lambda k: arrays(np.bool_, (k, 16, 16))),
    st.sampled_from(RULES),
    SIZES,
)
def test_a_roi_is_never_empty_and_has_the_image_size(masks, rule, size):
    masks[:, 7, 3] = True
    score = np.linspace(1, 0.5, len(masks), dtype=np.float32)
    found = select(masks, score, score, image=blank(size), max_candidates=9)
    roi = choose_roi(found, rule, size=size, similarity=found.score)
    assert roi.mask.shape == size
    assert roi.mask.dtype == np.bool_
    assert roi.mask.any()


@given(arrays(np.bool_, (1, 16, 16)))
def test_a_roi_of_the_frame_size_is_the_mask_itself(masks):
    masks[0, 0, 0] = True
    one = np.ones(1, dtype=np.float32)
    found = select(masks, one, one, image=blank((16, 16)), max_candidates=1)
    np.testing.assert_array_equal(choose_roi(found, "best", size=(16, 16)).mask, masks[0])


def test_a_single_pixel_survives_a_small_image():
    found = candidates((square(60, 5, 1), 1.0))
    roi = choose_roi(found, "best", size=(4, 4))
    assert np.argwhere(roi.mask).tolist() == [[0, 3]]


def test_a_mask_keeps_its_place_in_a_wide_image():
    roi = choose_roi(candidates((square(32, 0, 32), 1.0)), "best", size=(50, 200))
    expected = np.zeros((50, 200), dtype=np.bool_)
    expected[:25, 100:] = True
    assert iou(roi.mask, expected) > 0.97


def test_an_unknown_rule_names_the_choices():
    with pytest.raises(
        ConfigError, match=r"'brightest'.*best, largest, central, union, salient, nested, text"
    ):
        choose_roi(THREE, "brightest", size=(8, 8))


def test_text_without_similarity_says_which_encoder_has_text():
    with pytest.raises(ConfigError, match="encoder clip"):
        choose_roi(THREE, "text", size=(8, 8))


def test_text_with_similarities_of_other_candidates_is_refused():
    with pytest.raises(ValueError, match="2 similarities for 3 candidates"):
        choose_roi(THREE, "text", size=(8, 8), similarity=np.float32([0.1, 0.2]))


def test_iou_counts_shared_pixels():
    assert iou(square(0, 0, 4), square(2, 0, 4)) == pytest.approx(8 / 24)
    assert iou(CORNER, CORNER) == 1
    assert iou(CORNER, MIDDLE) == 0
    assert iou(CORNER & False, CORNER & False) == 1


def test_iou_of_two_shapes_is_refused():
    with pytest.raises(ValueError, match="shapes"):
        iou(CORNER, CORNER[:1])


def drawn(*regions: tuple[np.ndarray, float, int]) -> Candidates:
    """Candidates of regions painted one over the other on black: mask, score, brightness."""
    image = np.zeros((64, 64, 3), np.uint8)
    for mask, _, level in regions:
        image[mask] = level
    masks = np.array([mask for mask, _, _ in regions])
    score = np.array([score for _, score, _ in regions], dtype=np.float32)
    return select(masks, score, score, image=image, max_candidates=9)


HEAD, LUMP = square(8, 8, 48), square(20, 20, 12)


def test_salient_prefers_contrast_to_a_slightly_better_score() -> None:
    flat, clear = square(4, 40, 12), square(40, 4, 12)
    found = drawn((flat, 0.8, 2), (clear, 0.7, 200))
    np.testing.assert_array_equal(choose_roi(found, "salient", size=(64, 64)).mask, clear)


def test_salient_avoids_what_the_frame_cuts_off() -> None:
    cut, free = square(0, 20, 16), square(40, 40, 16)
    found = drawn((cut, 0.8, 200), (free, 0.7, 200))
    np.testing.assert_array_equal(choose_roi(found, "salient", size=(64, 64)).mask, free)


def test_nested_chooses_the_lump_in_the_head_however_good_the_head_is() -> None:
    found = drawn((HEAD, 0.99, 100), (LUMP, 0.6, 130))
    np.testing.assert_array_equal(choose_roi(found, "nested", size=(64, 64)).mask, LUMP)


def test_nested_without_nesting_is_salient() -> None:
    found = drawn((square(4, 4, 12), 0.9, 100), (LUMP, 0.7, 200))
    nested, salient = (
        choose_roi(found, rule, size=(64, 64)).mask for rule in ("nested", "salient")
    )
    np.testing.assert_array_equal(nested, salient)


@pytest.mark.parametrize("rule", ["salient", "nested"])
def test_where_nothing_stands_out_the_roi_is_the_organ(rule: RoiRule) -> None:
    found = drawn((HEAD, 0.45, 4), (LUMP, 0.4, 5))
    roi = choose_roi(found, rule, size=(64, 64))
    np.testing.assert_array_equal(roi.mask, HEAD)
    assert not roi.fallback


@pytest.mark.parametrize("rule", ["salient", "nested"])
def test_where_nothing_stands_out_and_there_is_no_organ_it_is_the_whole_image(
    rule: RoiRule,
) -> None:
    found = drawn((square(4, 4, 12), 0.45, 3), (LUMP, 0.4, 2))
    roi = choose_roi(found, rule, size=(64, 64))
    assert roi.mask.all()
    assert roi.fallback
