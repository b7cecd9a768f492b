"""A data set's own gate: what is unlike the rest of it.

It needs no words and nothing but the images: with d(x) the distance to the k-th nearest of them
(`gate.neighbours`), of a training image without itself, and the modified z-score

    z(x) = 0.6745 (d(x) - median) / MAD          Iglewicz and Hoaglin 1993, "How to Detect and
                                                 Handle Outliers", who cut at 3.5
    score(x) = 1 - z(x) / 3.5                    1 is as usual as half of the images, below 0 is out

Median and median absolute deviation stand even where some of the images are the very ones to be
found. k grows with the set (a twentieth of it, at least 8), so that a few strangers that are like
each other do not make each other usual. It cannot tell in a set that is mostly strangers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import NeighboursConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.gate.neighbours import Neighbours, NeighboursMethod
from medfocus_pipeline.types import FloatArray

LEAST = 16
"""Images, below which nobody can say what is usual."""

MOST = 500
"""Images that are kept at most, so that a folder with the gate stays small."""

_CUT, _NORMAL = 3.5, 0.6745
_SHARE, _FEWEST = 20, 8
_NARROWEST = 1e-3
"""Least MAD: of a set of copies it is 0, and everything else would be infinitely far."""


@dataclass(frozen=True, slots=True, eq=False)
class OwnGate:
    """What the images of a data set look like.

    Attributes:
        near: the images.
        median: of their distances.
        reach: distance from which on an image is out, greater than the median.
    """

    near: Neighbours
    median: float
    reach: float

    @classmethod
    def of(cls, features: FloatArray, rng: np.random.Generator) -> "OwnGate":
        """Of ``(n, d) float32`` features of a data set.

        Raises:
            DataError: there are fewer than `LEAST` images.
        """
        if len(features) < LEAST:
            raise DataError(
                f"{len(features)} images are too few to say which are unlike the rest: expected "
                f"{LEAST} or more. Add images, or let all in: medfocus scan --no-gate"
            )
        neighbour = max(_FEWEST, min(len(features), MOST) // _SHARE)
        config = NeighboursConfig(neighbour=neighbour, most=MOST)
        near = NeighboursMethod(config).fit(features, rng)
        distances = near.own_distances()
        median = float(np.median(distances))
        spread = max(float(np.median(np.abs(distances - median))), _NARROWEST)
        return cls(near, median, median + _CUT * spread / _NORMAL)

    def score(self, features: FloatArray) -> NDArray[np.float64]:
        """Of ``(m, d) float32`` images, ``(m,) float64``.

        An image that is kept is no neighbour of itself, so that it has the score of an image that
        was left out.
        """
        k = self.near.neighbour
        nearest, usual, further = self.near.ranked(
            features, 1, k, min(k + 1, len(self.near.rows))
        ).T
        distances = np.where(nearest < _SAME, further, usual)
        scores: NDArray[np.float64] = 1 - (distances - self.median) / (self.reach - self.median)
        return scores


_SAME = 2e-3
"""Distance below which two unit vectors are one that float16 has rounded."""
