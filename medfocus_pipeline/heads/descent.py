"""Many logistic regressions on the same rows, descended side by side: L-BFGS in one batch.

Problem b has its own penalty and its own part of the rows, and minimises

    f(W) = mean_i -log softmax(W x_i)[y_i] + 1/2 sum_kj decay_j W_kj^2

All problems take their steps together, so that the two products with the rows that an
iteration costs have B * K columns instead of K: the rows are read once for all of them.

The directions are those of L-BFGS (Nocedal and Wright 2006, algorithm 7.4), started not from a
multiple of the identity but from the diagonal of Boehning's quadratic model of the loss (1992,
"Multinomial logistic regression algorithm"), with the mean curvature of the softmax at W
in the place of its upper bound: a E[x_j^2] + decay_j, best where the coordinates of the rows are
uncorrelated. Logits are linear in the step, so that its length is found without the rows.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.errors import DataError

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]

MAX_ITERATIONS = 2_000
"""Far above what is needed (10 to 100); reaching it is an error."""

MEMORY = 10
"""Pairs of a step and its change of gradient that L-BFGS keeps."""

STEEPEST, FLATTEST = 0.9, 0.5
"""A step's length will do if the slope there is less than STEEPEST of the first one, still
downwards, or less than FLATTEST of it upwards."""

MAX_TRIALS = 20
"""Lengths tried for one step."""

LEAST_CURVATURE = 1e-12
"""Of the diagonal model. A step that is far too long can leave separated classes without any; the
way back must not start from a division by nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Problems:
    """B logistic regressions on N rows; all arrays float64.

    Attributes:
        rows: ``(N, r)``.
        truth: ``(K, N)``, one-hot.
        moments: ``(r,)``, E[x_j^2] over all rows.
        masks: ``(B, 1, N)``, 1 for the rows that a problem has, 0 for the others.
        decay: ``(B, 1, r)``, of the mean loss; 0 where nothing is penalised.
    """

    rows: Matrix
    truth: Matrix
    moments: Matrix
    masks: Matrix
    decay: Matrix

    def only(self, which: Mask) -> "Problems":
        """Those of a boolean ``(B,)``."""
        return replace(self, masks=self.masks[which], decay=self.decay[which])

    def logits(self, weights: Matrix) -> Matrix:
        """``(B, K, N)`` of weights ``(B, K, r)``."""
        b, k, r = weights.shape
        return (weights.reshape(b * k, r) @ self.rows.T).reshape(b, k, -1)

    def slopes(self, residuals: Matrix) -> Matrix:
        """Gradient of the mean loss, ``(B, K, r)``, from residuals ``(B, K, N)``."""
        b, k, n = residuals.shape
        slopes: Matrix = (residuals.reshape(b * k, n) @ self.rows).reshape(b, k, -1)
        slopes /= self.counts
        return slopes

    @property
    def counts(self) -> Matrix:
        """``(B, 1, 1)``, rows of each problem."""
        counts: Matrix = self.masks.sum(axis=2, keepdims=True)
        return counts

    def residuals(self, logits: Matrix) -> Matrix:
        """Probability minus truth, ``(B, K, N)``; 0 for rows that a problem lacks.

        The true class's is minus the sum of the others, which loses nothing where it is tiny.
        """
        others: Matrix = logits - logits.max(axis=1, keepdims=True)
        np.exp(others, out=others)
        others *= self.masks / others.sum(axis=1, keepdims=True)
        others *= 1 - self.truth
        others -= self.truth * others.sum(axis=1, keepdims=True)
        return others


@dataclass(slots=True, eq=False)
class State:
    """Where the problems are: weights and all that follows from them.

    Attributes:
        weights, gradient: ``(B, K, r)``.
        logits, residuals: ``(B, K, N)``.
        inverse: ``(B, 1, r)``, of the diagonal model of the Hessian.
        error: ``(B,)``, estimate of how far logits are from the optimum's, root mean square.
    """

    weights: Matrix
    gradient: Matrix
    logits: Matrix
    residuals: Matrix
    inverse: Matrix
    error: Matrix

    @classmethod
    def at(cls, problems: Problems, weights: Matrix, logits: Matrix, residuals: Matrix) -> "State":
        """The state at given weights, whose logits and residuals are known."""
        gradient = problems.slopes(residuals) + problems.decay * weights
        # 1 - sum p^2, the trace of diag(p) - p p^T, without the cancellation that it would have
        sums = 2 * np.einsum("bkn,kn->b", residuals, -problems.truth) - dot(residuals, residuals)
        free = problems.counts.ravel() * (len(problems.truth) - 1)
        curvature = np.maximum(sums / free, LEAST_CURVATURE)[:, None, None]
        inverse = 1 / (curvature * problems.moments + problems.decay)
        error = np.sqrt(dot(gradient, inverse * gradient) / curvature.ravel())
        return cls(weights, gradient, logits, residuals, inverse, error)

    def only(self, which: Mask) -> "State":
        """Those of a boolean ``(B,)``."""
        return State(*(getattr(self, field.name)[which] for field in fields(self)))


def minimise(problems: Problems, start: Matrix, *, tolerance: float) -> Matrix:
    """Optimal weights ``(B, K, r)``; a problem that has converged leaves the batch.

    Args:
        problems: what to minimise.
        start: ``(B, K, r)``.
        tolerance: of `State.error`.

    Raises:
        DataError: a problem did not converge.
    """
    found, places = np.empty_like(start), np.arange(len(start))
    logits = problems.logits(start)
    state = State.at(problems, start, logits, problems.residuals(logits))
    pairs: list[tuple[Matrix, Matrix]] = []
    for _ in range(MAX_ITERATIONS):
        on = ~(state.error <= tolerance)  # also where it is not a number
        if not on.all():
            found[places[~on]] = state.weights[~on]
            places, state, problems = places[on], state.only(on), problems.only(on)
            pairs = [(moved[on], change[on]) for moved, change in pairs]
        if not len(places):
            return found
        after = descend(problems, state, direction(state, pairs))
        pair = (after.weights - state.weights, after.gradient - state.gradient)
        pairs, state = [*pairs[-MEMORY + 1 :], pair], after
    raise DataError(
        f"{len(places)} of {len(found)} logistic regressions did not converge within "
        f"{MAX_ITERATIONS} iterations. Use smaller values of C, or features of unit length."
    )


def direction(state: State, pairs: list[tuple[Matrix, Matrix]]) -> Matrix:
    """L-BFGS's descent direction, ``(B, K, r)``."""
    step = -state.gradient
    history = []
    for moved, change in reversed(pairs):
        curvature = dot(moved, change)
        # Rounding can leave a pair without curvature; it then says nothing.
        rate = np.divide(1, curvature, out=np.zeros_like(curvature), where=curvature > 0)
        share = rate * dot(moved, step)
        step -= share[:, None, None] * change
        history.append((moved, change, rate, share))
    step *= state.inverse
    for moved, change, rate, share in reversed(history):
        step += (share - rate * dot(change, step))[:, None, None] * moved
    return step


def descend(problems: Problems, state: State, step: Matrix) -> State:
    """The state after a step along a direction, of a length found for each problem.

    Lengths are doubled until the slope turns upwards, then the secant's root is tried.
    """
    ahead, first = problems.logits(step), dot(state.gradient, step)
    length, low, low_slope = np.ones_like(first), np.zeros_like(first), first.copy()
    high, high_slope = np.full_like(first, np.inf), np.full_like(first, np.inf)
    residuals, slope = slope_at(problems, state, step, ahead, length)
    for _ in range(MAX_TRIALS):
        off = (slope < STEEPEST * first) | (slope > FLATTEST * -first)
        if not off.any():
            break
        down = slope < 0
        low, low_slope = np.where(down, length, low), np.where(down, slope, low_slope)
        high, high_slope = np.where(down, high, length), np.where(down, high_slope, slope)
        share = np.clip(low_slope / (low_slope - high_slope), 0.1, 0.9)
        following = np.where(np.isinf(high), 2 * length, low + share * (high - low))
        length = np.where(off, following, length)
        residuals[off], slope[off] = slope_at(
            problems.only(off), state.only(off), step[off], ahead[off], length[off]
        )
    t = length[:, None, None]
    return State.at(problems, state.weights + t * step, state.logits + t * ahead, residuals)


def slope_at(
    problems: Problems, state: State, step: Matrix, ahead: Matrix, length: Matrix
) -> tuple[Matrix, Matrix]:
    """Residuals ``(B, K, N)`` and slope ``(B,)`` at a length of the step."""
    t = length[:, None, None]
    residuals = problems.residuals(state.logits + t * ahead)
    penalty = dot(problems.decay * (state.weights + t * step), step)
    return residuals, dot(residuals, ahead) / problems.counts.ravel() + penalty


def dot(left: Matrix, right: Matrix) -> Matrix:
    """Inner product of each problem's ``(B, ., .)`` arrays, ``(B,)``."""
    product: Matrix = np.einsum("bij,bij->b", left, right)
    return product
