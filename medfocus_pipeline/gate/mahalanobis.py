"""Mahalanobis distance to the mean of the training images.

    d(x)^2 = (x - mean)^T S^-1 (x - mean)

S is the covariance shrunk towards a multiple of the identity, by as much as makes its expected
squared error least (Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional
covariance matrices"): there may be fewer images than dimensions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import MahalanobisConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.gate.protocol import check
from medfocus_pipeline.types import FloatArray


@dataclass(frozen=True, slots=True)
class MahalanobisMethod:
    """scikit-learn's `LedoitWolf`; see the module."""

    config: MahalanobisConfig

    def fit(
        self,
        features: FloatArray,
        rng: np.random.Generator,  # noqa: ARG002 (the protocol has it)
    ) -> "FittedMahalanobis":
        """Mean and inverse covariance of ``(n, d)`` features."""
        from sklearn.covariance import LedoitWolf

        check(features)
        with single_threaded():
            estimate = LedoitWolf().fit(features.astype(np.float64))
        return FittedMahalanobis(estimate.location_, estimate.precision_)


@dataclass(frozen=True, slots=True, eq=False)
class FittedMahalanobis:
    """A mean and a metric.

    Attributes:
        mean: ``(d,) float64``.
        precision: ``(d, d) float64``, S^-1.
    """

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]

    def score(self, features: FloatArray) -> NDArray[np.float64]:
        """Minus d^2, ``(m,)``."""
        centred = features.astype(np.float64) - self.mean
        with single_threaded():
            scores: NDArray[np.float64] = -np.einsum("md,md->m", centred @ self.precision, centred)
        return scores
