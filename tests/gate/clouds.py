"""Features of two kinds of images, which lie in two directions."""

import numpy as np

from medfocus_pipeline.types import FloatArray
from medfocus_pipeline.vectors import normalise


def cloud(count: int, *, seed: int, centre: int = 0, dim: int = 12) -> FloatArray:
    """``(count, dim) float32``, L2-normalised, around one axis."""
    rows = np.random.default_rng(seed).normal(size=(count, dim)) * 0.3
    rows[:, centre] += 2
    return normalise(rows.astype(np.float32))
