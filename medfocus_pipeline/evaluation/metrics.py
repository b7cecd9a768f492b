"""Scores of a run's answers, the table of implementations."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from medfocus_pipeline.errors import ConfigError, did_you_mean
from medfocus_pipeline.evaluation.predictions import Predictions

CALIBRATION_BINS = 15
NAN = float("nan")
ON_CLEAN = "_clean"
"""Ends the name of a score that counts only test images which are not among the training images."""


def accuracy(answers: Predictions) -> float:
    """Share of images whose most probable class is the true one, [0, 1]."""
    return float(answers.correct.mean())


def balanced_accuracy(answers: Predictions) -> float:
    """Mean recall of the classes that the test set has, [0, 1]."""
    from sklearn.metrics import recall_score

    seen = np.unique(answers.labels)
    return float(recall_score(answers.labels, answers.predicted, labels=seen, average="macro"))


def macro_f1(answers: Predictions) -> float:
    """Mean F1 of the classes that are in the truth or the predictions, [0, 1]."""
    from sklearn.metrics import f1_score

    return float(f1_score(answers.labels, answers.predicted, average="macro"))


def auroc(answers: Predictions) -> float:
    """Mean over the classes of the area under the ROC curve, one class against the rest, [0, 1].

    Returns:
        nan if a class has no image, or all of them.
    """
    from sklearn.metrics import roc_auc_score

    truth = answers.labels[:, None] == np.arange(answers.probabilities.shape[1])
    if truth.all(axis=0).any() or not truth.any(axis=0).all():
        return NAN
    return float(roc_auc_score(truth, answers.probabilities, average="macro"))


def calibration_error(answers: Predictions, *, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error, [0, 1]: bins of equal width over the confidence.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3:
    sum over the bins of share of images x |accuracy - mean confidence|. Bin m is
    ((m - 1) / M, m / M]; the confidence is the greatest probability.
    """
    index = np.clip(np.ceil(answers.confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    weights = answers.correct - answers.confidence
    gaps = np.bincount(index, weights=weights, minlength=bins)
    return float(np.abs(gaps).sum() / len(answers.labels))


class Metric(NamedTuple):
    """One score of a run.

    Attributes:
        measure: answers, at least one -> the score; nan where it is not defined.
        label: what people call it.
    """

    measure: Callable[[Predictions], float]
    label: str


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric(accuracy, "accuracy"),
    "balanced_accuracy": Metric(balanced_accuracy, "balanced accuracy"),
    "macro_f1": Metric(macro_f1, "macro F1"),
    "auroc": Metric(auroc, "AUROC"),
    "ece": Metric(calibration_error, "expected calibration error (lower is better)"),
}
"""By name, which is the column's too."""


def find(name: str) -> Metric:
    """The metric of a name.

    Raises:
        ConfigError: there is none; the known ones are listed.
    """
    if name not in METRICS:
        raise ConfigError(
            f"There is no metric {name!r}.{did_you_mean(name, METRICS)} Known metrics: "
            f"{', '.join(METRICS)}; each also with {ON_CLEAN} behind it."
        )
    return METRICS[name]


def label(name: str) -> str:
    """What people call a score.

    Raises:
        ConfigError: there is no such metric.
    """
    own = find(name.removesuffix(ON_CLEAN)).label
    return f"{own}, clean test images" if name.endswith(ON_CLEAN) else own


def measure(name: str, answers: Predictions) -> float:
    """One score of a run; nan without images.

    Raises:
        ConfigError: there is no such metric.
    """
    metric = find(name)
    return metric.measure(answers) if len(answers.labels) else NAN


def mean_score(name: str, answers: Sequence[Predictions]) -> float:
    """Mean of a score over the runs in which it is defined; nan if there is none."""
    scores = np.array([measure(name, one) for one in answers])
    known = scores[np.isfinite(scores)]
    return float(known.mean()) if len(known) else NAN
