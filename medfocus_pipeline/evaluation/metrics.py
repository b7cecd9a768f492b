"""Scores of predicted probabilities against the truth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.errors import DataError
from medfocus_pipeline.types import IntArray

CALIBRATION_BINS = 15
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Metrics:
    """Scores of one run on one test set; nan where a score is not defined.

    Attributes:
        accuracy: share of images whose most probable class is the true one, [0, 1].
        balanced_accuracy: mean recall of the classes that the test set has, [0, 1].
        macro_f1: mean F1 of the classes that are in the truth or the predictions, [0, 1].
        auroc: area under the ROC curve, mean over one class against the rest, [0, 1];
            nan if a class of the data set is absent from the test set.
        ece: expected calibration error, [0, 1].
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    auroc: float
    ece: float


def score(probabilities: NDArray[np.float64], labels: IntArray, *, n_classes: int) -> Metrics:
    """All scores of one run.

    Args:
        probabilities: ``(n, K) float64``, rows sum to 1.
        labels: ``(n,) int64`` in 0 .. K - 1.
        n_classes: K, classes of the data set, also those that the test set lacks.

    Raises:
        DataError: shapes or labels do not fit each other.
    """
    if probabilities.shape != (len(labels), n_classes):
        raise DataError(
            f"Probabilities have the shape {probabilities.shape}, expected "
            f"{(len(labels), n_classes)}: one row an image, one column a class."
        )
    if len(labels) == 0:
        return Metrics(NAN, NAN, NAN, NAN, NAN)
    if labels.min() < 0 or labels.max() >= n_classes:
        raise DataError(
            f"Labels run from {labels.min()} to {labels.max()}, expected 0 to {n_classes - 1}."
        )
    from sklearn.metrics import f1_score, recall_score

    predicted = probabilities.argmax(axis=1)
    seen = np.unique(labels)
    return Metrics(
        accuracy=accuracy(probabilities, labels),
        balanced_accuracy=float(recall_score(labels, predicted, labels=seen, average="macro")),
        macro_f1=float(f1_score(labels, predicted, average="macro")),
        auroc=auroc(probabilities, labels),
        ece=calibration_error(probabilities, labels),
    )


def accuracy(probabilities: NDArray[np.float64], labels: IntArray) -> float:
    """Share of images whose most probable class is the true one; nan without images."""
    if len(labels) == 0:
        return NAN
    return float((probabilities.argmax(axis=1) == labels).mean())


def auroc(probabilities: NDArray[np.float64], labels: IntArray) -> float:
    """Mean over the classes of the area under the ROC curve, one class against the rest.

    Args:
        probabilities: ``(n, K) float64``.
        labels: ``(n,) int64``.

    Returns:
        nan if a class has no image, or all of them.
    """
    from sklearn.metrics import roc_auc_score

    truth = labels[:, None] == np.arange(probabilities.shape[1])
    if truth.all(axis=0).any() or not truth.any(axis=0).all():
        return NAN
    return float(roc_auc_score(truth, probabilities, average="macro"))


def calibration_error(
    probabilities: NDArray[np.float64], labels: IntArray, *, bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error: bins of equal width over the confidence.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3:
    sum over the bins of share of images x |accuracy - mean confidence|. Bin m is
    ((m - 1) / M, m / M]; the confidence is the greatest probability.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(index, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))
