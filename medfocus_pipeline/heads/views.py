"""The views of an image: classified one by one, their probabilities averaged."""

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.heads.linear import softmax
from medfocus_pipeline.types import FloatArray


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
