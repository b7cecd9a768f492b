import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medfocus_pipeline.masks.roi import iou
from medfocus_pipeline.masks.votes import Votes, covers, support

CENTRES = np.stack(np.meshgrid((np.arange(8) + 0.5) / 8, (np.arange(8) + 0.5) / 8), axis=-1)
POINTS = CENTRES.reshape(-1, 2).astype(np.float32)
"""Centre of each pixel of an 8 x 8 frame, row by row."""


def square(side: int, *, frame: int = 8) -> np.ndarray:
    mask = np.zeros((frame, frame), dtype=np.bool_)
    mask[:side, :side] = True
    return mask


def of_first(masks: np.ndarray, points: list[int], prompt: list[int]) -> float:
    votes = Votes(POINTS[points], np.array(prompt))
    among = np.arange(len(masks))
    return float(support(masks, of=np.array([0]), among=among, votes=votes)[0])


def test_a_mask_covers_the_points_in_its_pixels():
    mask = np.random.default_rng(0).random((8, 8)) < 0.5
    np.testing.assert_array_equal(covers(mask[None], POINTS)[0], mask.ravel())
    fine = np.repeat(np.repeat(mask, 4, axis=0), 4, axis=1)
    np.testing.assert_array_equal(covers(fine[None], POINTS)[0], mask.ravel())


def test_prompts_that_agree_support_a_mask_the_more_the_more_they_are():
    masks = np.repeat(square(3)[None], 4, axis=0)
    assert of_first(masks[:1], [0], [0]) == 0
    assert of_first(masks[:2], [0, 1], [0, 1]) == 1 / 2
    assert of_first(masks, [0, 1, 2, 8], [0, 1, 2, 3]) == 3 / 4


def test_a_prompt_votes_with_its_best_mask_and_never_for_its_own():
    masks = np.stack([square(4), square(4), square(8), square(2)])
    assert of_first(masks, [0, 9], [0, 0, 1, 1]) == pytest.approx((1 / 4) / 2)


def test_a_prompt_outside_has_no_vote_and_one_without_masks_votes_against():
    masks = np.stack([square(4), square(4)])
    assert of_first(masks, [0, 63], [0, 1]) == 0
    assert of_first(masks, [0, 1, 2], [0, 1]) == pytest.approx(1 / 3)


@settings(max_examples=30)
@given(
    st.integers(1, 9).flatmap(
        lambda m: st.tuples(
            arrays(np.bool_, (m, 8, 8)),
            arrays(np.int64, m, elements=st.integers(0, 4)),
            arrays(np.bool_, m),
        )
    ),
    st.lists(st.integers(0, 63), min_size=5, max_size=5, unique=True),
)
def test_support_is_what_its_definition_says(proposed, points):
    masks, prompt, voting = proposed
    among = np.flatnonzero(voting)
    votes = Votes(POINTS[points], prompt)
    found = support(masks, of=np.arange(len(masks)), among=among, votes=votes)
    assert found.dtype == np.float32
    for index, mask in enumerate(masks):
        others = [p for p in range(5) if p != prompt[index] and mask.ravel()[points[p]]]
        total = sum(
            max((iou(masks[row], mask) for row in among if prompt[row] == voter), default=0)
            for voter in others
        )
        assert found[index] == pytest.approx(total / (len(others) + 1), abs=1e-6)


def test_large_frames_are_compared_at_a_lower_resolution():
    masks = np.stack([square(96, frame=256), square(98, frame=256)])
    assert of_first(masks, [0, 1], [0, 1]) == pytest.approx(24**2 / 25**2 / 2)
