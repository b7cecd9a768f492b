"""L2-regularised multinomial logistic regression: many parts of the same rows at once.

The objective is scikit-learn's, C * sum_i loss_i + 1/2 |W|^2 with intercepts that cost nothing,
and so is the case of two classes: there the one weight vector w of the log-odds is penalised,
which is the softmax's with W = (-w, w) / 2 and half the C.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np

from medfocus_pipeline.heads.descent import Mask, Matrix, Problems, minimise
from medfocus_pipeline.types import IntArray

MAX_LOGITS = 2**24
"""Of problems solved side by side, unless one has more: 128 MiB an array."""

SINGLE = 1e-3
"""Tolerance from which on float32 will do, for half the cost: its fits are then as near."""


@dataclass(frozen=True, slots=True)
class Fits:
    """Weights on every part.

    Attributes:
        classes: ``(k,) int64``, the labels that occur, ascending.
        coef: ``(P, k, r) float64``.
        intercept: ``(P, k) float64``.
    """

    classes: IntArray
    coef: Matrix
    intercept: Matrix


def solve(
    rows: Matrix, labels: IntArray, c: float, *, tolerance: float, parts: Mask | None = None
) -> Fits:
    """Fit every part of the rows. Equal arguments give equal bytes.

    Args:
        rows: ``(n, r) float64``; centred and uncorrelated columns converge fastest.
        labels: ``(n,) int64``.
        c: inverse strength of regularisation.
        tolerance: root mean square error of the logits, about the greatest of probabilities.
        parts: ``(P, n)``, rows of each part, with images of every class; None is all rows.

    Raises:
        DataError: a fit did not converge.
    """
    whole = np.ones((1, len(rows)), np.bool_)
    shared = Shared.of(rows, labels, whole if parts is None else parts)
    if tolerance >= SINGLE:
        shared = shared.single()
    found = shared.fit(c, tolerance=tolerance).astype(np.float64)
    return Fits(shared.classes, found[..., :-1], found[..., -1])


@dataclass(frozen=True, slots=True)
class Shared:
    """What all problems have in common.

    Attributes:
        classes: ``(k,) int64``.
        rows: ``(n, r + 1)``, the last column ones, for the intercept.
        truth: ``(k, n)``, one-hot.
        masks: ``(P, 1, n)``, 0 or 1.
        start: ``(P, k, r + 1)``, weights 0 and intercepts that give the shares of the classes.
    """

    classes: IntArray
    rows: Matrix
    truth: Matrix
    masks: Matrix
    start: Matrix

    @classmethod
    def of(cls, rows: Matrix, labels: IntArray, parts: Mask) -> "Shared":
        """Rows and labels in the solver's form."""
        classes, codes = np.unique(labels, return_inverse=True)
        truth = np.eye(len(classes))[:, codes]
        masks = parts.astype(np.float64)
        extended = np.hstack([rows, np.ones((len(rows), 1))])
        start = np.zeros((len(parts), len(classes), extended.shape[1]))
        shares = np.log(masks @ truth.T / masks.sum(axis=1, keepdims=True))
        start[:, :, -1] = shares - shares.mean(axis=1, keepdims=True)
        return cls(classes, extended, truth, masks[:, None], start)

    def single(self) -> "Shared":
        """The same in float32."""
        rows, truth, masks, start = (
            cast(Matrix, one.astype(np.float32))
            for one in (self.rows, self.truth, self.masks, self.start)
        )
        return Shared(self.classes, rows, truth, masks, start)

    def fit(self, c: float, *, tolerance: float) -> Matrix:
        """Weights ``(P, k, r + 1)``."""
        moments = np.square(self.rows).mean(axis=0)
        strength = 2.0 if len(self.classes) == 2 else 1.0
        decay = np.zeros((len(self.masks), 1, len(moments)), self.rows.dtype)
        decay[..., :-1] = strength / (c * self.masks.sum(axis=2, keepdims=True))
        size = max(1, MAX_LOGITS // self.truth.size)
        found = [
            minimise(
                Problems(self.rows, self.truth, moments, self.masks[some], decay[some]),
                self.start[some],
                tolerance=tolerance,
            )
            for some in (slice(at, at + size) for at in range(0, len(self.masks), size))
        ]
        return np.concatenate(found)
