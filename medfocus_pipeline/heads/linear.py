"""The linear probe: logistic regression on frozen features, C chosen inside the subset."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import LinearConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.threads import single_threaded
from medfocus_pipeline.types import JSON, FloatArray, IntArray

Matrix = NDArray[np.float64]

MAX_ITERATIONS = 10_000
"""Far above what L-BFGS needs (about 100 a fit); reaching it is an error, not a warning."""

TOLERANCE = 1e-8
"""Of the fit that is kept: greatest entry of the gradient of the mean loss over rows. At C = 100
the probabilities are then good to 1e-5 or better, with scikit-learn's 1e-4 to a few percent."""

TRIAL_TOLERANCE = 1e-5
"""Of the fits that only rank Cs."""


@dataclass(frozen=True, slots=True)
class LinearHead:
    """Logistic regression (scikit-learn: L2, multinomial, L-BFGS) on all views of the images.

    C is scikit-learn's, counted over rows (images x views).
    """

    config: LinearConfig

    def fit(self, train: TrainingSet, rng: np.random.Generator) -> "FittedLinear":
        """Choose C by cross-validation inside the subset, then fit all of it."""
        check(train)
        with single_threaded("sklearn.linear_model"):
            space = RowSpace.of(train.features)
            c = choose_c(space.rows, train.labels, config=self.config, rng=rng)
            return fit_rows(space, train, c=c)


@dataclass(frozen=True, slots=True)
class FittedLinear:
    """Weights of a fitted linear head.

    Attributes:
        coef: ``(K, d) float64``.
        intercept: ``(K,) float64``; -inf for a class without training images, whose
            probability is then 0.
        chosen: ``{"C": ...}``.
    """

    coef: Matrix
    intercept: Matrix
    chosen: JSON

    def predict_proba(self, features: FloatArray) -> Matrix:
        """``(m, K) float64``, mean over the views of the softmax."""
        with single_threaded():
            logits = features.astype(np.float64) @ self.coef.T + self.intercept
        mean: Matrix = softmax(logits).mean(axis=1)
        return mean


@dataclass(frozen=True, slots=True)
class RowSpace:
    """Features in coordinates that give the same probabilities for less work.

    Neither moving the origin (the intercept is not penalised) nor a rotation (the L2 norm
    is not changed by one) moves the optimum of L2-regularised logistic regression, nor does
    leaving out directions that no row has. So: the mean is taken off, which also makes the
    problem far better conditioned, and if rows are fewer than dimensions the axes become
    an orthonormal basis of the rows. Both hold for any part of the rows, so that all folds
    share one decomposition.

    Attributes:
        rows: ``(n, v, r) float64``, r = min(n * v, d).
        origin: ``(d,) float64``, the mean that was taken off.
        basis: ``(d, r) float64`` with orthonormal columns; None for the axes as they were.
    """

    rows: Matrix
    origin: Matrix
    basis: Matrix | None

    @classmethod
    def of(cls, features: FloatArray) -> "RowSpace":
        """The row space of ``(n, v, d) float32`` features."""
        n, views, dim = features.shape
        flat = features.reshape(n * views, dim).astype(np.float64)
        origin = flat.mean(axis=0)
        flat -= origin
        if len(flat) >= dim:
            return cls(flat.reshape(n, views, dim), origin, None)
        basis, triangle = np.linalg.qr(flat.T)
        return cls(np.ascontiguousarray(triangle.T).reshape(n, views, -1), origin, basis)

    def restore(self, coef: Matrix, intercept: Matrix) -> tuple[Matrix, Matrix]:
        """Weights ``(K, r)`` and ``(K,)`` for the features as they came: ``(K, d), (K,)``."""
        full = coef if self.basis is None else coef @ self.basis.T
        return full, intercept - full @ self.origin


def check(train: TrainingSet) -> None:
    """Refuse a training set that no classifier can learn from.

    Raises:
        DataError: fewer than two classes, or features that are misshapen or not finite.
    """
    if train.features.ndim != 3 or len(train.features) != len(train.labels):
        raise DataError(
            f"Training features have the shape {train.features.shape}, expected "
            f"({len(train.labels)}, views, d): one row an image."
        )
    if not np.isfinite(train.features).all():
        raise DataError(
            "Training features have values that are not finite. Run: medfocus cache verify, "
            "then embed again."
        )
    present = np.unique(train.labels)
    if len(present) < 2:
        raise DataError(
            f"The training subset has {len(train.labels)} images of {len(present)} class(es), "
            "a classifier needs two classes or more. Use a larger fraction or more shots, or "
            "check that the training folder has at least two class folders with images."
        )


def choose_c(
    rows: Matrix, labels: IntArray, *, config: LinearConfig, rng: np.random.Generator
) -> float:
    """C with the least mean log-loss on held-out images, the smaller one of equals.

    Folds are stratified and made of images, so that the views of one never sit on both
    sides. Their number is `config.folds` or the size of the smallest class; a class with
    fewer than `config.min_images` images makes it `config.default_c` without a trial. The
    grid is climbed from below, each fit starting at the one before, until the held-out
    loss rises: beyond its first minimum over C, fits are the slowest and only overfit more.

    Args:
        rows: ``(n, v, r) float64``.
        labels: ``(n,) int64``.
        config: grid, folds and default.
        rng: draws the folds.
    """
    grid = sorted(set(config.c_grid))
    smallest = int(np.unique_counts(labels).counts.min())
    if smallest < config.min_images:
        return config.default_c
    if len(grid) == 1:
        return grid[0]
    trials = [
        Trial(
            logistic(TRIAL_TOLERANCE), rows[train], labels[train], rows[held_out], labels[held_out]
        )
        for train, held_out in folds(labels, n_folds=min(config.folds, smallest), rng=rng)
    ]
    best, least = grid[0], np.inf
    for c in grid:
        loss = float(np.mean([trial.loss(c) for trial in trials]))
        if loss > least:
            break
        if loss < least:
            best, least = c, loss
    return best


def folds(
    labels: IntArray, *, n_folds: int, rng: np.random.Generator
) -> Iterator[tuple[IntArray, IntArray]]:
    """Positions of the images (training, held out) of each stratified fold."""
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=int(rng.integers(2**32)))
    yield from splitter.split(np.zeros(len(labels)), labels)


@dataclass(frozen=True, slots=True)
class Trial:
    """One fold on its way up the grid; the model starts each fit at the last one's weights."""

    model: Any
    rows: Matrix
    labels: IntArray
    held_out: Matrix
    truth: IntArray

    def loss(self, c: float) -> float:
        """Mean log-loss of the held-out images, probabilities averaged over views."""
        fit(self.model, self.rows, self.labels, c=c)
        n, views, dim = self.held_out.shape
        probabilities = self.model.predict_proba(self.held_out.reshape(n * views, dim))
        mean = probabilities.reshape(n, views, -1).mean(axis=1)
        true = mean[np.arange(n), np.searchsorted(self.model.classes_, self.truth)]
        return float(-np.log(np.maximum(true, np.finfo(np.float64).tiny)).mean())


def logistic(tolerance: float) -> Any:
    """An unfitted scikit-learn model; its second fit starts at the first one's weights."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(
        solver="lbfgs", tol=tolerance, max_iter=MAX_ITERATIONS, warm_start=True
    )


def fit(model: Any, rows: Matrix, labels: IntArray, *, c: float) -> None:
    """Fit all views of all images; a fit that does not converge raises."""
    from sklearn.exceptions import ConvergenceWarning

    n, views, dim = rows.shape
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model.set_params(C=c).fit(rows.reshape(n * views, dim), np.repeat(labels, views))


def fit_rows(space: RowSpace, train: TrainingSet, *, c: float) -> FittedLinear:
    """The head for one C, in the coordinates of the features."""
    model = logistic(TOLERANCE)
    fit(model, space.rows, train.labels, c=c)
    coef, intercept = space.restore(model.coef_, model.intercept_)
    if len(model.classes_) == 2:  # scikit-learn keeps one row: the log-odds of the second class
        coef, intercept = np.vstack([-coef, coef]) / 2, np.hstack([-intercept, intercept]) / 2
    full_coef = np.zeros((train.n_classes, coef.shape[1]))
    full_intercept = np.full(train.n_classes, -np.inf)
    full_coef[model.classes_], full_intercept[model.classes_] = coef, intercept
    return FittedLinear(full_coef, full_intercept, {"C": c})


def softmax(logits: Matrix) -> Matrix:
    """Softmax over the last axis; -inf becomes 0."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Matrix = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities
