import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medfocus_pipeline.masks.candidates import (
    Limits,
    areas,
    boxes,
    pack,
    select,
    stability,
    unpack,
)
from medfocus_pipeline.masks.votes import Votes
from tests.fakes import blank

SIZES = st.tuples(st.integers(1, 300), st.integers(1, 300))
MASKS = st.integers(0, 6).flatmap(lambda k: arrays(np.bool_, (k, 16, 16)))
UNIT = st.floats(0, 1, width=32)


def disc(side: int, *, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def ones(k: int) -> np.ndarray:
    return np.ones(k, dtype=np.float32)


@given(MASKS)
def test_packed_masks_unpack_to_the_same(masks):
    packed = pack(masks)
    assert packed.shape == (len(masks), 16, 2)
    assert packed.dtype == np.uint8
    unpacked = unpack(packed)
    assert unpacked.dtype == np.bool_
    np.testing.assert_array_equal(unpacked, masks)


def test_leftmost_pixel_is_the_highest_bit():
    mask = np.zeros((1, 8, 8), dtype=np.bool_)
    mask[0, 3, 0] = True
    assert pack(mask)[0, 3, 0] == 128


@given(MASKS, SIZES)
def test_boxes_bound_their_masks_tightly(masks, size):
    height, width = size
    found = boxes(masks, size=size)
    assert found.dtype == np.float32
    assert found.shape == (len(masks), 4)
    for mask, box in zip(masks, found, strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows) == 0:
            assert box.tolist() == [0, 0, 0, 0]
            continue
        square = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        expected = np.array(square) / 16 * [width, height, width, height]
        np.testing.assert_allclose(box, expected, rtol=1e-6)


def test_stability_is_the_share_of_the_laxer_mask():
    logits = np.array([[[3.0, 0.5, -0.5, -3.0]]], dtype=np.float32)
    assert stability(logits, offset=1.0).tolist() == pytest.approx([1 / 3])
    assert stability(-np.abs(logits) - 5, offset=1.0).tolist() == [0]


@given(
    st.integers(0, 12).flatmap(
        lambda k: st.tuples(
            arrays(np.bool_, (k, 8, 8)),
            arrays(np.float32, k, elements=UNIT),
            arrays(np.float32, k, elements=UNIT),
        )
    ),
    st.tuples(UNIT, UNIT, st.floats(0, 0.5), st.floats(0.5, 1), st.floats(0.1, 1)),
    st.integers(1, 5),
    SIZES,
)
def test_selected_candidates_keep_every_limit(proposed, limits, most, size):
    masks, score, stable = proposed
    min_score, min_stability, min_area, max_area, duplicate_iou = limits
    chosen = select(
        masks,
        score,
        stable,
        image=blank(size),
        limits=Limits(min_score, min_stability, min_area, max_area),
        duplicate_iou=duplicate_iou,
        max_candidates=most,
    )
    assert len(chosen) <= most
    assert chosen.masks.shape == (len(chosen), 8, 8)
    assert (np.diff(chosen.score) <= 0).all()
    assert (chosen.score >= min_score).all()
    assert (chosen.stability >= min_stability).all()
    assert ((chosen.area >= min_area) & (chosen.area <= max_area) & (chosen.area > 0)).all()
    np.testing.assert_array_equal(chosen.area, areas(chosen.masks))
    np.testing.assert_array_equal(chosen.boxes, boxes(chosen.masks, size=size))
    for index, mask in enumerate(chosen.masks):
        for other in chosen.masks[:index]:
            assert (mask & other).sum() / (mask | other).sum() <= duplicate_iou


@given(MASKS, SIZES)
def test_without_limits_only_empty_masks_are_dropped(masks, size):
    k = len(masks)
    chosen = select(masks, ones(k), ones(k), image=blank(size), max_candidates=max(k, 1))
    assert len(chosen) == np.count_nonzero(masks.any(axis=(1, 2)))


def test_of_duplicates_the_better_score_stays():
    masks = np.stack(
        [
            disc(64, x=20, y=20, radius=10),
            disc(64, x=21, y=20, radius=10),
            disc(64, x=50, y=50, radius=8),
        ]
    )
    score = np.array([0.7, 0.9, 0.8], dtype=np.float32)
    chosen = select(
        masks, score, ones(3), image=blank((64, 64)), duplicate_iou=0.7, max_candidates=9
    )
    np.testing.assert_array_equal(chosen.masks, masks[[1, 2]])


def test_equal_scores_go_to_the_more_stable_then_the_earlier():
    masks = np.stack([disc(64, x=x, y=20, radius=5) for x in (10, 30, 50)])
    stable = np.array([0.5, 0.9, 0.9], dtype=np.float32)
    chosen = select(masks, ones(3), stable, image=blank((64, 64)), max_candidates=3)
    np.testing.assert_array_equal(chosen.masks, masks[[1, 2, 0]])


def test_only_masks_within_the_limits_vote():
    whole, half = np.ones((8, 8), dtype=np.bool_), np.zeros((8, 8), dtype=np.bool_)
    half[:4] = True
    masks = np.stack([whole, whole, half])
    score = np.array([0.9, 0.2, 0.8], dtype=np.float32)
    points = np.array([[0.1, 0.9], [0.9, 0.9], [0.5, 0.1]], dtype=np.float32)
    votes = Votes(points, np.arange(3))
    chosen, choosy = (
        select(
            masks,
            score,
            ones(3),
            image=blank((8, 8)),
            limits=Limits(min_score=least),
            max_candidates=1,
            votes=votes,
        )
        for least in (0, 0.5)
    )
    assert chosen.support.tolist() == [pytest.approx((1 + 0.5) / 3)]
    assert choosy.support.tolist() == [pytest.approx((0 + 0.5) / 3)]


def test_without_prompts_every_candidate_is_supported():
    masks = np.ones((1, 8, 8), dtype=np.bool_)
    chosen = select(masks, ones(1), ones(1), image=blank((8, 8)), max_candidates=1)
    assert chosen.support.dtype == np.float32
    assert chosen.support.tolist() == [1]
