import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfocus_pipeline.segmenters.prompting import (
    coarse_points,
    describe,
    grid,
    next_points,
    rounds,
)

SIDE = 12
POINTS = grid(SIDE)
NOTHING = np.zeros((0, SIDE * SIDE), dtype=np.bool_)


def looks(*spots: int) -> np.ndarray:
    """Features of an image of one colour, but for some points of the grid."""
    colour = np.zeros((SIDE * SIDE, 3), dtype=np.float32)
    colour[list(spots)] = 5
    return describe([colour], POINTS)


def patch(*, row: int, column: int, side: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    mask[row : row + side, column : column + side] = True
    return mask.ravel()


def test_the_grid_is_the_cells_centres_row_by_row():
    expected = [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    np.testing.assert_array_equal(grid(2), np.float32(expected))


@pytest.mark.parametrize("side", range(1, 65))
def test_a_quarter_of_the_grid_is_asked(side):
    first = coarse_points(side)
    assert len(set(first.tolist())) == len(first)
    assert ((first >= 0) & (first < side * side)).all()
    assert len(first) + sum(rounds(side)) == max(1, side * side // 4)


def test_the_coarse_grid_is_the_same_from_both_sides():
    coarse = coarse_points(15)
    np.testing.assert_array_equal(coarse, np.sort(15 * 15 - 1 - coarse))


def test_every_level_counts_alike_whatever_its_scale():
    colour = np.random.default_rng(0).normal(size=(SIDE * SIDE, 4)).astype(np.float32)
    constant = np.full_like(colour, 7)
    found = describe([1000 * colour, colour, constant], POINTS)
    np.testing.assert_allclose(found[:, :4], found[:, 4:8], atol=1e-5)
    assert not found[:, 8:12].any()
    np.testing.assert_allclose(np.square(found[:, 12:]).sum(axis=1).mean(), 1, rtol=1e-5)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(0, 5))
def test_no_point_is_asked_twice(seed, count, candidates):
    rng = np.random.default_rng(seed)
    asked = rng.permutation(SIDE * SIDE)[: rng.integers(1, 84)]
    covered = rng.random((candidates, SIDE * SIDE)) < rng.random()
    new = next_points(
        describe([rng.normal(size=(SIDE * SIDE, 5)).astype(np.float32)], POINTS),
        asked,
        covered=covered,
        count=count,
    )
    assert new.dtype == np.int64
    assert len(new) == count
    together = np.concatenate([asked, new]).tolist()
    assert len(set(together)) == len(together)
    assert set(together) <= set(range(SIDE * SIDE))


def test_what_looks_like_nothing_asked_before_is_asked():
    new = next_points(looks(50, 101), np.array([77]), covered=NOTHING, count=1)
    assert new.tolist() in ([50], [101])


def test_what_looks_alike_is_asked_where_it_is_far_away():
    blank = np.zeros((SIDE * SIDE, 1), dtype=np.float32)
    new = next_points(describe([blank], POINTS), np.array([0]), covered=NOTHING, count=3)
    assert set(new.tolist()) == {SIDE - 1, SIDE * (SIDE - 1), SIDE * SIDE - 1}


def test_a_candidate_explains_what_it_covers_if_it_looks_like_that():
    spot, other = patch(row=1, column=1, side=3), patch(row=8, column=8, side=3)
    features = looks(*np.flatnonzero(spot | other))
    asked = np.array([SIDE * 6 + 5])
    for mask, rest in ((spot, other), (other, spot)):
        new = next_points(features, asked, covered=mask[None], count=1)
        assert rest[new].all()


def test_a_candidate_does_not_explain_a_part_that_looks_otherwise():
    head = patch(row=1, column=1, side=10)
    lesion = SIDE * 7 + 7
    new = next_points(looks(lesion), np.array([SIDE * 3 + 3]), covered=head[None], count=1)
    assert new.tolist() == [lesion]


def test_a_small_candidate_explains_more_of_what_it_covers_than_a_huge_one():
    small, huge = patch(row=7, column=7, side=4), patch(row=0, column=0, side=12)
    asked, features = np.array([0]), looks()
    inside = [
        np.count_nonzero(small[next_points(features, asked, covered=mask[None], count=40)])
        for mask in (small, huge)
    ]
    assert inside[0] < inside[1]
