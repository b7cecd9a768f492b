"""What heads share: what they refuse, the softmax, and the mean over the views of an image."""

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.types import FloatArray, IntArray


def check(train: TrainingSet) -> None:
    """Refuse a training set that no classifier can learn from.

    Raises:
        DataError: fewer than two classes, or features that are misshapen or not finite.
    """
    if train.features.ndim != 3 or len(train.features) != len(train.labels):
        raise DataError(
            f"Training features have the shape {train.features.shape}, expected "
            f"({len(train.labels)}, views, d): one row an image."
        )
    if not np.isfinite(train.features).all():
        raise DataError(
            "Training features have values that are not finite. Run: medfocus cache verify, "
            "then embed again."
        )
    present = np.unique(train.labels)
    if len(present) < 2:
        raise DataError(
            f"The training subset has {len(train.labels)} images of {len(present)} class(es), "
            "a classifier needs two classes or more. Use a larger fraction or more shots, or "
            "check that the training folder has at least two class folders with images."
        )


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax over the last axis; -inf becomes 0."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities


def log_losses(probabilities: NDArray[np.float64], labels: IntArray) -> NDArray[np.float64]:
    """Minus the logarithm of what each image's class has of ``(m, K)`` probabilities, ``(m,)``."""
    true = probabilities[np.arange(len(labels)), labels]
    losses: NDArray[np.float64] = -np.log(np.maximum(true, np.finfo(np.float64).tiny))
    return losses


def view_rows(features: FloatArray) -> FloatArray:
    """``(m * v, d)`` rows of ``(m, v, d)`` features: one matrix, for one fast product."""
    return features.reshape(-1, features.shape[2])


def mean_probabilities(logits: FloatArray, *, views: int) -> NDArray[np.float64]:
    """``(m, K) float64``: the mean over each image's views of the softmax.

    Args:
        logits: ``(m * views, K)``, the views of an image side by side.
        views: v.
    """
    probabilities = softmax(logits.astype(np.float64))
    mean: NDArray[np.float64] = probabilities.reshape(-1, views, logits.shape[1]).mean(axis=1)
    return mean
