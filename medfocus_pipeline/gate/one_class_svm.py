"""One-class SVM: the half-space that holds most training images, in a kernel's feature space.

Schoelkopf, Platt, Shawe-Taylor, Smola and Williamson 2001, "Estimating the Support of a
High-Dimensional Distribution", with the kernel k(x, y) = exp(-gamma |x - y|^2):

    score(x) = sum_i alpha_i k(x_i, x) - rho

scikit-learn fits it. The sum is ours: libsvm takes it image by image, many times slower.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import OneClassSvmConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.gate.protocol import check
from medfocus_pipeline.types import FloatArray

_ROWS = 4096
"""That are compared with the support vectors at once, which bounds the memory."""


@dataclass(frozen=True, slots=True)
class OneClassSvmMethod:
    """scikit-learn's `OneClassSVM`; see the module."""

    config: OneClassSvmConfig

    def fit(
        self,
        features: FloatArray,
        rng: np.random.Generator,  # noqa: ARG002 (the protocol has it)
    ) -> "FittedOneClassSvm":
        """Support vectors of ``(n, d)`` features."""
        from sklearn.svm import OneClassSVM

        check(features)
        rows = features.astype(np.float64)
        # What `scale` is; 1 where the images are all the same and it is not defined.
        gamma = self.config.gamma or 1 / (rows.shape[1] * rows.var() or 1.0)
        fitted = OneClassSVM(nu=self.config.nu, gamma=gamma).fit(rows)
        return FittedOneClassSvm(
            fitted.support_vectors_, fitted.dual_coef_[0], float(fitted.intercept_[0]), gamma
        )


@dataclass(frozen=True, slots=True, eq=False)
class FittedOneClassSvm:
    """A sum of kernels.

    Attributes:
        vectors: ``(s, d) float64``, the support vectors.
        weights: ``(s,) float64``, alpha.
        intercept: minus rho.
        gamma: of the kernel.
    """

    vectors: NDArray[np.float64]
    weights: NDArray[np.float64]
    intercept: float
    gamma: float

    def score(self, features: FloatArray) -> NDArray[np.float64]:
        """Positive inside, ``(m,)``."""
        with single_threaded():
            parts = [
                self._score(features[start : start + _ROWS].astype(np.float64))
                for start in range(0, len(features), _ROWS)
            ]
        return np.concatenate([np.empty(0), *parts])

    def _score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        squares = np.square(rows).sum(axis=1)[:, None] + np.square(self.vectors).sum(axis=1)
        squares -= 2 * (rows @ self.vectors.T)
        kernel = np.exp(-self.gamma * np.maximum(squares, 0))
        scores: NDArray[np.float64] = kernel @ self.weights + self.intercept
        return scores
