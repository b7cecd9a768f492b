"""Distance to the k-th nearest training image.

Sun, Ming, Zhu and Li 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors" (ICML),
section 3: with z the L2-normalised feature and z_(k) the k-th nearest of the training images,

    r(x) = |z(x) - z_(k)|
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import NeighboursConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.gate.protocol import check
from medfocus_pipeline.types import FloatArray
from medfocus_pipeline.vectors import normalise

_ROWS = 4096
"""That are compared with the training images at once, which bounds the memory."""


@dataclass(frozen=True, slots=True)
class NeighboursMethod:
    """Keep the training images; see the module."""

    config: NeighboursConfig

    def fit(self, features: FloatArray, rng: np.random.Generator) -> "Neighbours":
        """Keep ``(n, d)`` features, or `config.most` of them that `rng` draws."""
        check(features)
        if len(features) > self.config.most:
            kept = rng.choice(len(features), self.config.most, replace=False)
            features = features[np.sort(kept)]
        neighbour = min(self.config.neighbour, len(features) - 1)
        return Neighbours(normalise(features).astype(np.float16), neighbour)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Training images; without slots, for what is computed of them once.

    Attributes:
        rows: ``(n, d) float16``, their z.
        neighbour: k, from 1 to n.
    """

    rows: NDArray[np.float16]
    neighbour: int

    def score(self, features: FloatArray) -> NDArray[np.float64]:
        """Minus r, ``(m,)`` in [-2, 0]."""
        return -self.distances(features)

    def distances(self, features: FloatArray) -> NDArray[np.float64]:
        """The r of ``(m, d) float32`` features, ``(m,) float64`` in [0, 2]."""
        return self.ranked(features, self.neighbour)[:, 0]

    def ranked(self, features: FloatArray, *places: int) -> NDArray[np.float64]:
        """Distances of ``(m, d) float32`` features to some of the training images.

        Args:
            places: 1 is the nearest, n the farthest.

        Returns:
            ``(m, number of places) float64`` in [0, 2].
        """
        parts = [
            _kth(self._squares(normalise(features[start : start + _ROWS])), *places)
            for start in range(0, len(features), _ROWS)
        ]
        return np.concatenate([np.empty((0, len(places))), *parts])

    def own_distances(self) -> NDArray[np.float64]:
        """The r of the training images, each left out of its own neighbours, ``(n,)``."""
        among = self._squares(self._floats)
        np.fill_diagonal(among, np.inf)
        return _kth(among, self.neighbour)[:, 0]

    @cached_property
    def _floats(self) -> FloatArray:
        return self.rows.astype(np.float32)

    @cached_property
    def _lengths(self) -> FloatArray:
        lengths: FloatArray = np.square(self._floats).sum(axis=1)
        return lengths

    def _squares(self, some: FloatArray) -> FloatArray:
        """Squared distance of each of ``(m, d)`` to each of the images, ``(m, n) float32``.

        Its rounding is some 1e-7, far below that of rows in float16.
        """
        if len(some) == 1:  # done before the threads would be limited
            squares: FloatArray = np.einsum("nd,d->n", self._floats, some[0])[None]
        else:
            with single_threaded():
                squares = some @ self._floats.T
        squares *= -2
        squares += self._lengths
        squares += np.square(some).sum(axis=1)[:, None]
        return squares


def _kth(squares: FloatArray, *places: int) -> NDArray[np.float64]:
    """Square roots of the k-th smallest of each row, ``(m, number of places)``."""
    ranks = [place - 1 for place in places]
    kth = np.partition(squares, ranks, axis=1)[:, ranks].astype(np.float64)
    found: NDArray[np.float64] = np.sqrt(np.maximum(kth, 0))
    return found
