"""L2-regularised multinomial logistic regression: many C on many parts of the same rows at once.

The objective is scikit-learn's, C * sum_i loss_i + 1/2 |W|^2 with intercepts that cost nothing,
and so is the case of two classes: there the one weight vector w of the log-odds is penalised,
which is the softmax's with W = (-w, w) / 2 and half the C.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medfocus_pipeline.heads.descent import Mask, Matrix, Problems, minimise
from medfocus_pipeline.types import IntArray

SPAN = 10.5
"""Greatest ratio of neighbours among the values of C that are solved first, from nothing."""

NEIGHBOURS = 4
"""Values of C from whose weights those of one between them are interpolated."""

MAX_LOGITS = 2**24
"""Of problems solved side by side, unless one has more: 128 MiB an array."""


@dataclass(frozen=True, slots=True)
class Fits:
    """Weights for every C on every part.

    Attributes:
        classes: ``(k,) int64``, the labels that occur, ascending.
        coef: ``(C, P, k, r) float64``.
        intercept: ``(C, P, k) float64``.
    """

    classes: IntArray
    coef: Matrix
    intercept: Matrix


def solve(
    rows: Matrix,
    labels: IntArray,
    cs: Sequence[float],
    *,
    tolerance: float,
    parts: Mask | None = None,
) -> Fits:
    """Fit every C on every part of the rows.

    Values of C about a decade apart are solved first; those between them start at weights
    interpolated in log C, along which they are smooth. What shares a batch is decided by
    the arguments alone, so that equal arguments give equal bytes.

    Args:
        rows: ``(n, r) float64``; centred and uncorrelated columns converge fastest.
        labels: ``(n,) int64``.
        cs: inverse strengths of regularisation, ascending.
        tolerance: root mean square error of the logits, about the greatest of probabilities.
        parts: ``(P, n)``, rows of each part, with images of every class; None is all rows.

    Raises:
        DataError: a fit did not converge.
    """
    whole = np.ones((1, len(rows)), np.bool_)
    shared = Shared.of(rows, labels, whole if parts is None else parts)
    first = ends_and_steps(cs)
    between = [place for place in range(len(cs)) if place not in first]
    found = np.empty((len(cs), *shared.start.shape))
    found[first] = shared.fit(
        [cs[place] for place in first],
        np.broadcast_to(shared.start, found[first].shape),
        tolerance=tolerance,
    )
    if between:
        logs = np.log(cs)
        starts = np.tensordot(interpolation(logs[first], logs[between]), found[first], axes=1)
        found[between] = shared.fit([cs[place] for place in between], starts, tolerance=tolerance)
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

    def fit(self, cs: Sequence[float], starts: Matrix, *, tolerance: float) -> Matrix:
        """Weights ``(C, P, k, r + 1)``, from starts of that shape."""
        moments = np.square(self.rows).mean(axis=0)
        strength = 2.0 if len(self.classes) == 2 else 1.0
        decay: Matrix = np.zeros((len(cs), len(self.masks), 1, len(moments)))
        counts = self.masks.sum(axis=2)
        decay[..., :-1] = strength / (np.reshape(cs, (-1, 1, 1, 1)) * counts[:, :, None])
        problems = len(cs) * len(self.masks)
        decay = decay.reshape(problems, 1, -1)
        masks = np.tile(self.masks, (len(cs), 1, 1))
        start = starts.reshape(problems, *self.start.shape[1:])
        size = max(1, MAX_LOGITS // self.truth.size)
        found = [
            minimise(
                Problems(self.rows, self.truth, moments, masks[some], decay[some]),
                start[some],
                tolerance=tolerance,
            )
            for some in (slice(at, at + size) for at in range(0, problems, size))
        ]
        return np.concatenate(found).reshape(starts.shape)


def ends_and_steps(cs: Sequence[float]) -> list[int]:
    """Places of the first C, of the last, and of as few between as `SPAN` allows."""
    places = [0]
    for place in range(1, len(cs)):
        if place == len(cs) - 1 or cs[place + 1] > SPAN * cs[places[-1]]:
            places.append(place)
    return places


def interpolation(known: Matrix, wanted: Matrix) -> Matrix:
    """Lagrange's coefficients ``(wanted, known)``, polynomials through the `NEIGHBOURS` nearest."""
    table = np.zeros((len(wanted), len(known)))
    for row, x in zip(table, wanted, strict=True):
        near = np.argsort(np.abs(known - x), kind="stable")[:NEIGHBOURS]
        for i in near:
            others = known[near[near != i]]
            row[i] = np.prod((x - others) / (known[i] - others))
    return table
