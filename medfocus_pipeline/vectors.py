"""Features as vectors of unit length: of parts that are joined, of classes."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.types import FloatArray


def normalise(rows: FloatArray) -> FloatArray:
    """L2-normalise along the last axis; a row of zeros stays one."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: FloatArray = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return unit


def class_means(embedded: Iterable[FloatArray]) -> FloatArray:
    """``(K, d) float32``, L2-normalised: the mean of each class's normalised rows.

    Args:
        embedded: ``(n, d)`` of each class.
    """
    return normalise(np.stack([normalise(rows).mean(axis=0) for rows in embedded]))


def joined(parts: Sequence[Sequence[NDArray[Any]]]) -> FloatArray:
    """Features of embeddings as the stores keep them: each part L2-normalised, then joined.

    A part of several arrays is the levels, the mean over the views of what had length 1, beside
    the embedding of each view, which is brought to it.

    Args:
        parts: for each part the ``(n, v, d_i) float16`` of its `FeaturePart.arrays`; an array of
            one view stands beside each view of the others.

    Returns:
        ``(n, v, sum of d_i) float32``.
    """
    return np.concatenate([normalise(stacked(arrays)) for arrays in parts], axis=2)


def stacked(arrays: Sequence[NDArray[Any]]) -> FloatArray:
    """The arrays of one part side by side, the last of several L2-normalised."""
    *levels, top = (rows.astype(np.float32) for rows in arrays)
    if not levels:
        return top
    beside = [np.broadcast_to(level, (*top.shape[:2], level.shape[2])) for level in levels]
    return np.concatenate([*beside, normalise(top)], axis=2)
