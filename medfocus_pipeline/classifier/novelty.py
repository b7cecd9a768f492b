"""Whether an image is like the training images at all: the distance to its nearest neighbours.

Sun, Ming, Zhu and Li 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors" (ICML),
section 3: with z the L2-normalised feature and z_(k) the k-th nearest of the training images,

    r(x) = |z(x) - z_(k)|                       unfamiliar where r(x) > threshold

The feature is that of the whole image and those that the head reads, joined (`parts_of`): what a
head sees of a region alone may look right in an image of something else.

It assumes nothing about how the features lie, and works with few images, where the covariance of
a Mahalanobis distance has more entries than there are features. The threshold is the paper's
kind, from training data alone: a quantile of what the training images score among themselves,
each left out of its own neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.features import normalise
from medfocus_pipeline.heads.threads import single_threaded
from medfocus_pipeline.types import FeaturePart, FloatArray

NEIGHBOUR = 5
"""k, or one less than the number of images where those are fewer."""

QUANTILE = 0.99
"""Of the training images that are within the threshold."""

MOST = 2000
"""Training images that are kept at most, so that a pack stays small."""


def parts_of(parts: Sequence[FeaturePart]) -> tuple[FeaturePart, ...]:
    """The parts to look at for a head that reads these."""
    whole = FeaturePart("original")
    return tuple(parts) if whole in parts else (whole, *parts)


@dataclass(frozen=True, slots=True, eq=False)
class Familiar:
    """What training images look like to the encoder.

    Attributes:
        rows: ``(n, D) float16``, z of the training images.
        neighbour: k, from 1 to n.
        threshold: of the distance, in [0, 2].
    """

    rows: NDArray[np.float16]
    neighbour: int
    threshold: float

    @classmethod
    def of(cls, features: FloatArray, rng: np.random.Generator) -> "Familiar":
        """Of ``(n, v, D) float32`` features of n >= 2 training images.

        Args:
            features: of the run's subset.
            rng: draws `MOST` of the images where there are more.
        """
        if len(features) > MOST:
            features = features[np.sort(rng.choice(len(features), MOST, replace=False))]
        rows = _unit(features).astype(np.float16)
        neighbour = min(NEIGHBOUR, len(rows) - 1)
        among = _distances(rows.astype(np.float32), rows)
        np.fill_diagonal(among, np.inf)
        own = np.partition(among, neighbour - 1, axis=1)[:, neighbour - 1]
        return cls(rows, neighbour, float(np.quantile(own, QUANTILE)))

    def distances(self, features: FloatArray) -> NDArray[np.float64]:
        """The r of ``(m, v, D) float32`` features, ``(m,) float64`` in [0, 2]."""
        k = self.neighbour - 1
        found: NDArray[np.float64] = np.partition(
            _distances(_unit(features), self.rows), k, axis=1
        )[:, k]
        return found


def _unit(features: FloatArray) -> FloatArray:
    """z, ``(n, D)``: the mean over the views, L2-normalised."""
    return normalise(features.mean(axis=1))


def _distances(some: FloatArray, rows: NDArray[np.float16]) -> NDArray[np.float64]:
    """Euclidean distance of each of ``(m, D)`` to each of ``(n, D)``, ``(m, n)``."""
    a, b = some.astype(np.float64), rows.astype(np.float64)
    with single_threaded():
        product = a @ b.T
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * product
    distances: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0))
    return distances
