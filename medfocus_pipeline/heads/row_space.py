"""Features along few axes: what logistic regression converges fast on, and the way back."""

from dataclasses import dataclass

import numpy as np

from medfocus_pipeline.heads.descent import Matrix
from medfocus_pipeline.types import FloatArray

NOTHING = 1e-13
"""Part of the greatest variance below which a direction is rounding; float32 has 1e-14."""

BESIDE = 1e-6
"""Part of a direction beside the axes that is rounding; float32 has 1e-7."""


@dataclass(frozen=True, slots=True)
class RowSpace:
    """Features along their principal axes, which give the same probabilities for less work.

    Neither moving the origin (the intercept is not penalised) nor a rotation (the L2 norm
    is not changed by one) moves the optimum of L2-regularised logistic regression, nor does
    leaving out directions that no row has. So the mean is taken off, and the axes become
    those along which the rows are uncorrelated, which the solver converges fastest in; there
    are no more of them than rows. All holds for any part of the rows, so that all folds
    share one decomposition.

    Attributes:
        rows: ``(n, v, r) float64``, r at most d.
        origin: ``(d,) float64``, the mean that was taken off.
        basis: ``(d, r) float64`` with orthonormal columns; zeros for a direction without rows.
    """

    rows: Matrix
    origin: Matrix
    basis: Matrix

    @classmethod
    def of(cls, features: FloatArray) -> "RowSpace":
        """The row space of ``(n, v, d) float32`` features."""
        n, views, dim = features.shape
        flat = features.reshape(n * views, dim).astype(np.float64)
        origin = flat.mean(axis=0)
        flat -= origin
        if len(flat) >= dim:
            _, basis = np.linalg.eigh(flat.T @ flat)
            return cls((flat @ basis).reshape(n, views, dim), origin, basis)
        squares, axes = np.linalg.eigh(flat @ flat.T)
        lengths = np.sqrt(np.maximum(squares, 0))
        seen = squares > NOTHING * squares[-1]
        scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=seen)
        rows = axes * np.where(seen, lengths, 0)
        return cls(rows.reshape(n, views, -1), origin, flat.T @ (axes * scale))

    @classmethod
    def near(cls, features: FloatArray, axes: Matrix, directions: Matrix) -> "RowSpace":
        """The row space of features that are known but for their length and a few directions.

        The axes are those of rows nearby, and what the directions have beside them. Along these
        the features are a little correlated, which costs the solver some steps, but a product
        with them costs far less than another decomposition.

        Args:
            features: ``(n, v, d) float32``.
            axes: ``(d, r) float64``, the `basis` of the rows nearby.
            directions: ``(d, k) float64``; features less their mean are in the span of both.
        """
        n, views, dim = features.shape
        basis = axes if axes.shape[1] == dim else _widened(axes, directions)
        flat = features.reshape(n * views, dim).astype(np.float64)
        origin = flat.mean(axis=0)
        flat -= origin
        return cls((flat @ basis).reshape(n, views, -1), origin, basis)

    def restore(self, coef: Matrix, intercept: Matrix) -> tuple[Matrix, Matrix]:
        """Weights ``(K, r)`` and ``(K,)`` for the features as they came: ``(K, d), (K,)``."""
        full = coef @ self.basis.T
        return full, intercept - full @ self.origin


def _widened(axes: Matrix, directions: Matrix) -> Matrix:
    """Axes ``(d, r)``, and an orthonormal basis of what directions ``(d, k)`` have beside them."""
    units = directions / np.maximum(np.linalg.norm(directions, axis=0), np.finfo(np.float64).tiny)
    for _ in range(2):  # the second time takes off what rounding left
        units = units - axes @ (axes.T @ units)
    beside, lengths, _ = np.linalg.svd(units, full_matrices=False)
    return np.hstack([axes, beside[:, lengths > BESIDE]])
