"""The linear probe: logistic regression on frozen features, C chosen inside the subset."""

from dataclasses import dataclass

import numpy as np

from medfocus_pipeline.config import LinearConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.heads.common import check, log_losses, softmax
from medfocus_pipeline.heads.descent import Matrix
from medfocus_pipeline.heads.folds import folds, smallest_class
from medfocus_pipeline.heads.logistic import solve
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.row_space import RowSpace
from medfocus_pipeline.types import JSON, FloatArray, IntArray

TOLERANCE = 1e-6
"""Of the fit that is kept: of logits and probabilities, root mean square over the rows."""

TRIAL_TOLERANCE = 1e-3
"""Of the fits that only rank: held-out losses of neighbours in a grid differ by far more."""


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
            c = choose_c(space.rows, train.labels, config=self.config, rng=rng, groups=train.groups)
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


def choose_c(
    rows: Matrix,
    labels: IntArray,
    *,
    config: LinearConfig,
    rng: np.random.Generator,
    groups: IntArray | None = None,
) -> float:
    """C with the least mean log-loss on held-out images, the smaller one of equals.

    Folds are stratified and made of images, so that the views of one never sit on both
    sides, and of whole groups where there are some. Their number is `config.folds` or the
    size of the smallest class, its groups; a class with fewer than `config.min_images` makes
    it `config.default_c` without a trial, and so do groups that allow no fold. The
    grid is climbed until the loss rises: beyond, greater Cs only overfit more, and take the
    solver longest.

    Args:
        rows: ``(n, v, r) float64``.
        labels: ``(n,) int64``.
        groups: ``(n,) int64``, see `TrainingSet`.
    """
    grid = sorted(set(config.c_grid))
    smallest = smallest_class(labels, groups)
    if smallest < config.min_images:
        return config.default_c
    if len(grid) == 1:
        return grid[0]
    splits = list(folds(labels, n_folds=min(config.folds, smallest), rng=rng, groups=groups))
    if not splits:
        return config.default_c
    best, least = grid[0], np.inf
    for c in grid:
        loss = held_out_loss(rows, labels, splits, c=c)
        if loss > least:
            break
        if loss < least:
            best, least = c, loss
    return best


def held_out_loss(
    rows: Matrix, labels: IntArray, splits: list[tuple[IntArray, IntArray]], *, c: float
) -> float:
    """Mean log-loss of the held-out images, its mean over the folds, which are fitted together.

    Probabilities are averaged over views.

    Args:
        rows: ``(n, v, r) float64``.
        labels: ``(n,) int64``.
        splits: positions of the images (training, held out) of each fold.
    """
    n, views, dim = rows.shape
    parts = np.zeros((len(splits), n), np.bool_)
    for part, (train, _) in zip(parts, splits, strict=True):
        part[train] = True
    fits = solve(
        rows.reshape(n * views, dim),
        np.repeat(labels, views),
        c,
        tolerance=TRIAL_TOLERANCE,
        parts=np.repeat(parts, views, axis=1),
    )
    losses = []
    for fold, (_, held_out) in enumerate(splits):
        probabilities = softmax(rows[held_out] @ fits.coef[fold].T + fits.intercept[fold])
        codes = np.searchsorted(fits.classes, labels[held_out])
        losses.append(log_losses(probabilities.mean(axis=1), codes).mean())
    return float(np.mean(losses))


def fit_rows(
    space: RowSpace, train: TrainingSet, *, c: float, tolerance: float = TOLERANCE
) -> FittedLinear:
    """The head for one C, in the coordinates of the features."""
    n, views, dim = space.rows.shape
    rows, labels = space.rows.reshape(n * views, dim), np.repeat(train.labels, views)
    fits = solve(rows, labels, c, tolerance=tolerance)
    coef, intercept = space.restore(fits.coef[0], fits.intercept[0])
    full_coef = np.zeros((train.n_classes, coef.shape[1]))
    full_intercept = np.full(train.n_classes, -np.inf)
    full_coef[fits.classes], full_intercept[fits.classes] = coef, intercept
    return FittedLinear(full_coef, full_intercept, {"C": c})
