"""The linear probe: logistic regression on frozen features, C chosen inside the subset."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medfocus_pipeline.config import LinearConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.descent import Matrix
from medfocus_pipeline.heads.logistic import Fits, solve
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.threads import single_threaded
from medfocus_pipeline.types import JSON, FloatArray, IntArray

TOLERANCE = 1e-6
"""Of the fit that is kept: of logits and probabilities, root mean square over the rows."""

TRIAL_TOLERANCE = 1e-4
"""Of the fits that only rank Cs."""

NOTHING = 1e-13
"""Part of the greatest variance below which a direction is rounding; float32 has 1e-14."""


@dataclass(frozen=True, slots=True)
class LinearHead:
    """Logistic regression (multinomial, L2) on all views of the images.

    C is scikit-learn's, counted over rows (images x views).
    """

    config: LinearConfig

    def fit(self, train: TrainingSet, rng: np.random.Generator) -> "FittedLinear":
        """Choose C by cross-validation inside the subset, then fit all of it."""
        check(train)
        with single_threaded():
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
    """Features along their principal axes, which give the same probabilities for less work.

    Neither moving the origin (the intercept is not penalised) nor a rotation (the L2 norm
    is not changed by one) moves the optimum of L2-regularised logistic regression, nor does
    leaving out directions that no row has. So the mean is taken off, and the axes become
    those along which the rows are uncorrelated, which the solver converges fastest in; there
    are no more of them than rows. All holds for any part of the rows, so that all folds
    share one decomposition.

    Attributes:
        rows: ``(n, v, r) float64``, r = min(n * v, d).
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

    def restore(self, coef: Matrix, intercept: Matrix) -> tuple[Matrix, Matrix]:
        """Weights ``(K, r)`` and ``(K,)`` for the features as they came: ``(K, d), (K,)``."""
        full = coef @ self.basis.T
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
    fewer than `config.min_images` images makes it `config.default_c` without a trial. All
    folds are fitted side by side for the whole grid; the one that counts is the first
    minimum of the held-out loss from below: beyond it, greater Cs only overfit more.

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
    splits = list(folds(labels, n_folds=min(config.folds, smallest), rng=rng))
    losses = held_out_losses(rows, labels, grid, splits)
    rises = np.flatnonzero(np.diff(losses) > 0)
    climbed = losses[: rises[0] + 1] if len(rises) else losses
    return grid[int(climbed.argmin())]


def held_out_losses(
    rows: Matrix, labels: IntArray, grid: list[float], splits: list[tuple[IntArray, IntArray]]
) -> Matrix:
    """Mean log-loss of the held-out images for each C, ``(C,)``, its mean over the folds."""
    n, views, dim = rows.shape
    parts = np.zeros((len(splits), n), np.bool_)
    for part, (train, _) in zip(parts, splits, strict=True):
        part[train] = True
    fits = solve(
        rows.reshape(n * views, dim),
        np.repeat(labels, views),
        grid,
        tolerance=TRIAL_TOLERANCE,
        parts=np.repeat(parts, views, axis=1),
    )
    losses = [
        [
            held_out_loss(fits, rows[held_out], labels[held_out], place=place, part=part)
            for part, (_, held_out) in enumerate(splits)
        ]
        for place in range(len(grid))
    ]
    means: Matrix = np.mean(losses, axis=1)
    return means


def folds(
    labels: IntArray, *, n_folds: int, rng: np.random.Generator
) -> Iterator[tuple[IntArray, IntArray]]:
    """Positions of the images (training, held out) of each stratified fold."""
    from sklearn.model_selection import StratifiedKFold

    splitter = StratifiedKFold(n_folds, shuffle=True, random_state=int(rng.integers(2**32)))
    yield from splitter.split(np.zeros(len(labels)), labels)


def held_out_loss(fits: Fits, rows: Matrix, labels: IntArray, *, place: int, part: int) -> float:
    """Mean log-loss of ``(m, v, r)`` images, probabilities averaged over views.

    Args:
        fits: of all Cs and parts.
        rows: not those of the part.
        labels: ``(m,) int64``.
        place: of C.
        part: the fold.
    """
    probabilities = softmax(rows @ fits.coef[place, part].T + fits.intercept[place, part])
    codes = np.searchsorted(fits.classes, labels)
    true = probabilities.mean(axis=1)[np.arange(len(labels)), codes]
    return float(-np.log(np.maximum(true, np.finfo(np.float64).tiny)).mean())


def fit_rows(space: RowSpace, train: TrainingSet, *, c: float) -> FittedLinear:
    """The head for one C, in the coordinates of the features."""
    n, views, dim = space.rows.shape
    rows, labels = space.rows.reshape(n * views, dim), np.repeat(train.labels, views)
    fits = solve(rows, labels, [c], tolerance=TOLERANCE)
    coef, intercept = space.restore(fits.coef[0, 0], fits.intercept[0, 0])
    full_coef = np.zeros((train.n_classes, coef.shape[1]))
    full_intercept = np.full(train.n_classes, -np.inf)
    full_coef[fits.classes], full_intercept[fits.classes] = coef, intercept
    return FittedLinear(full_coef, full_intercept, {"C": c})


def softmax(logits: Matrix) -> Matrix:
    """Softmax over the last axis; -inf becomes 0."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Matrix = powers / powers.sum(axis=-1, keepdims=True)
    return probabilities
