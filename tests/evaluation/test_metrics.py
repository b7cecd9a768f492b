import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.evaluation.metrics import (
    METRICS,
    auroc,
    balanced_accuracy,
    calibration_error,
    measure,
)
from medfocus_pipeline.evaluation.predictions import Predictions


def answers(probabilities: np.ndarray, labels: Sequence[int] | np.ndarray) -> Predictions:
    truth = np.array(labels, np.int64)
    predicted = probabilities.argmax(axis=1) if len(truth) else truth
    clean = np.ones(len(truth), np.bool_)
    return Predictions(np.arange(len(truth)), truth, predicted, probabilities, clean)


def scores(probabilities: np.ndarray, labels: Sequence[int] | np.ndarray) -> dict[str, float]:
    return {name: measure(name, answers(probabilities, labels)) for name in METRICS}


def probabilities_of(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """Rows that sum to 1; coarse, so that some of them tie."""
    raw = rng.integers(1, 6, (n, k)).astype(np.float64)
    return raw / raw.sum(axis=1, keepdims=True)


@settings(max_examples=50)
@given(n=st.integers(1, 60), k=st.integers(2, 6), seed=st.integers(0, 2**32 - 1))
def test_every_score_is_scikit_learns(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities, labels = probabilities_of(rng, n, k), rng.integers(0, k, n)
    got = scores(probabilities, labels)
    predicted = probabilities.argmax(axis=1)
    seen = np.unique(labels)
    recalls = [(predicted[labels == label] == label).mean() for label in seen]
    assert got["accuracy"] == sklearn_metrics.accuracy_score(labels, predicted)
    assert got["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert got["macro_f1"] == pytest.approx(
        sklearn_metrics.f1_score(labels, predicted, average="macro")
    )
    if len(seen) < k:
        assert math.isnan(got["auroc"])
    elif k == 2:
        assert got["auroc"] == pytest.approx(
            sklearn_metrics.roc_auc_score(labels, probabilities[:, 1])
        )
    else:
        by_sklearn = sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr")
        assert got["auroc"] == pytest.approx(by_sklearn)
    assert 0 <= got["ece"] <= 1


def test_balanced_accuracy_is_scikit_learns_where_it_predicts_no_absent_class() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    probabilities = np.eye(3)[[0, 0, 1, 1, 2, 0]]
    expected = sklearn_metrics.balanced_accuracy_score(labels, [0, 0, 1, 1, 2, 0])
    assert balanced_accuracy(answers(probabilities, labels)) == pytest.approx(expected)


def test_scores_of_a_small_case_are_those_computed_by_hand() -> None:
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9]])
    got = scores(probabilities, [0, 1, 1, 1])
    assert got["accuracy"] == 3 / 4
    assert got["balanced_accuracy"] == pytest.approx((1 + 2 / 3) / 2)
    assert got["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert got["auroc"] == 1.0
    # 15 bins, each confidence in one of its own: (0.2 + 0.6 + 0.3 + 0.1) / 4
    assert got["ece"] == pytest.approx(1.2 / 4)


def test_images_of_one_bin_are_averaged_before_the_gap_is_taken() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    labels = np.array([0, 0, 0, 1])
    assert calibration_error(answers(probabilities, labels)) == pytest.approx(0.9 - 0.75)
    assert calibration_error(answers(probabilities, labels), bins=1) == pytest.approx(0.9 - 0.75)


def test_a_bin_holds_its_upper_edge() -> None:
    probabilities = np.array([[0.5, 0.5, 0.0], [0.75, 0.25, 0.0], [1.0, 0.0, 0.0]])
    labels = np.array([1, 0, 0])
    # With 2 bins 0.5 lies in the lower one, alone and wrong; 0.75 and 1 share the upper one.
    expected = (0.5 + abs(2 - 1.75)) / 3
    assert calibration_error(answers(probabilities, labels), bins=2) == pytest.approx(expected)


def test_a_sure_and_right_prediction_is_calibrated() -> None:
    assert calibration_error(answers(np.eye(3), np.arange(3))) == 0


def test_without_images_nothing_is_defined() -> None:
    none = scores(np.empty((0, 3)), [])
    assert all(math.isnan(value) for value in none.values())


def test_auroc_is_undefined_where_a_class_has_no_image_or_all() -> None:
    probabilities = np.full((4, 3), 1 / 3)
    assert math.isnan(auroc(answers(probabilities, [0, 0, 1, 1])))
    assert math.isnan(auroc(answers(probabilities, [0, 0, 0, 0])))
    assert auroc(answers(probabilities, [0, 1, 2, 2])) == 0.5


def test_a_class_that_the_test_set_lacks_is_no_recall_but_spoils_f1_when_predicted() -> None:
    got = scores(np.eye(3)[[0, 1, 2]], [0, 1, 1])
    assert got["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    assert got["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_an_unknown_metric_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no metric 'aucroc'. Did you mean auroc.*accuracy, bal"):
        measure("aucroc", answers(np.eye(2), [0, 1]))
