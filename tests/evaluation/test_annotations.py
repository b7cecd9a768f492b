from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medfocus_pipeline.evaluation.annotations import ORACLE, mean_agreement, roi_agreement
from medfocus_pipeline.masks.roi import iou
from tests.fakes import candidates

SINGLE = {"best", "largest", "central"}
RULES = SINGLE | {"union", "salient", "nested"}


def square(first: int, last: int, side: int = 16) -> np.ndarray:
    mask = np.zeros((side, side), np.bool_)
    mask[first:last, first:last] = True
    return mask


def test_each_rule_is_scored_by_its_own_choice() -> None:
    corner, large, centre = square(0, 4), square(5, 16), square(6, 10)
    found = candidates(np.stack([corner, large, centre]), size=(16, 16))
    found = replace(found, score=np.float32([0.9, 0.8, 0.6]))
    got = roi_agreement(found, centre)
    assert got["best"] == iou(corner, centre) == 0
    assert got["largest"] == pytest.approx(iou(large, centre))
    assert got["central"] == 1
    assert got["union"] == pytest.approx(iou(corner | large, centre))
    assert got[ORACLE] == 1


@given(
    masks=st.integers(1, 4).flatmap(lambda k: arrays(np.bool_, (k, 16, 16))),
    annotation=arrays(np.bool_, (9, 13)),
)
def test_no_rule_that_always_picks_one_candidate_beats_the_oracle(
    masks: np.ndarray, annotation: np.ndarray
) -> None:
    masks[:, 0, 0], annotation[0, 0] = True, True
    got = roi_agreement(candidates(masks, size=(9, 13)), annotation)
    assert set(got) == RULES | {ORACLE}
    assert all(0 <= value <= 1 for value in got.values())
    assert max(got[rule] for rule in SINGLE) <= got[ORACLE]


def test_without_candidates_every_rule_is_judged_by_the_whole_image() -> None:
    annotation = np.zeros((10, 10), np.bool_)
    annotation[:5] = True
    none = candidates(np.empty((0, 16, 16), np.bool_), size=(10, 10))
    assert roi_agreement(none, annotation) == dict.fromkeys({*RULES, ORACLE}, 0.5)


def test_the_mean_is_taken_rule_by_rule() -> None:
    images = [{"best": 0.2, ORACLE: 0.6}, {"best": 0.4, ORACLE: 1.0}]
    assert mean_agreement(iter(images)) == pytest.approx({"best": 0.3, ORACLE: 0.8})
    assert mean_agreement([]) == {}
