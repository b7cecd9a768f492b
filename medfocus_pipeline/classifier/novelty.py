"""Whether an image is like the training images at all: the distance to its nearest neighbours.

It is the gate's `gate.neighbours`, on the mean over the views: unfamiliar where r > threshold. The
feature is that of the whole image and those that the head reads, joined (`parts_of`): what a head
sees of a region alone may look right in an image of something else.

It assumes nothing about how the features lie, and works with few images, where the covariance of
a Mahalanobis distance has more entries than there are features. The threshold is the paper's
kind, from training data alone: a quantile of what the training images score among themselves,
each left out of its own neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import NeighboursConfig
from medfocus_pipeline.gate.neighbours import Neighbours, NeighboursMethod
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
        config = NeighboursConfig(neighbour=NEIGHBOUR, most=MOST)
        near = NeighboursMethod(config).fit(features.mean(axis=1), rng)
        threshold = float(np.quantile(near.own_distances(), QUANTILE))
        return cls(near.rows, near.neighbour, threshold)

    def distances(self, features: FloatArray) -> NDArray[np.float64]:
        """The r of ``(m, v, D) float32`` features, ``(m,) float64`` in [0, 2]."""
        return Neighbours(self.rows, self.neighbour).distances(features.mean(axis=1))
