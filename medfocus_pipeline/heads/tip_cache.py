"""The cache of Tip-Adapter: keys, values, and the choice of its alpha and beta.

The formula is in `heads.tip_adapter`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config.heads import CacheConfig
from medfocus_pipeline.heads.common import log_losses, mean_probabilities, view_rows
from medfocus_pipeline.heads.folds import each_alone, folds, smallest_class
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.zeroshot import Texts
from medfocus_pipeline.types import FloatArray, IntArray
from medfocus_pipeline.vectors import normalise

MOST_ALONE = 64
"""Images that are held out one by one."""


def mean_keys(train: TrainingSet) -> FloatArray:
    """F before training, ``(n, D) float32``, L2-normalised: the mean over each image's views."""
    return normalise(normalise(train.features).mean(axis=1))


def one_hot(train: TrainingSet) -> FloatArray:
    """L, ``(n, K) float32``."""
    rows: FloatArray = np.eye(train.n_classes, dtype=np.float32)[train.labels]
    return rows


def read(affinity: FloatArray, values: FloatArray, *, beta: float) -> FloatArray:
    """``exp(-beta (1 - affinity)) L``, ``(..., K)``, for affinities ``(..., n)``."""
    found: FloatArray = np.exp(np.float32(beta) * (affinity - 1)) @ values
    return found


@dataclass(frozen=True, slots=True)
class Trial:
    """A cache of some images of the subset, the `rest`, and those that it is judged by.

    Attributes:
        keys: ``(n, D) float32``, of `rest`.
    """

    keys: FloatArray
    rest: TrainingSet
    held_out: TrainingSet


def trial_sets(
    train: TrainingSet, *, folds_at_most: int, min_images: int, rng: np.random.Generator
) -> list[tuple[TrainingSet, TrainingSet]]:
    """(rest, held out) of each stratified fold of images, or of groups where there are some.

    None where some class has fewer than `min_images`; the folds are no more than the smallest
    class has. Where it has two (two shots), two folds would leave half of the images, so that
    of up to `MOST_ALONE` images each is held out alone.
    """
    smallest = smallest_class(train.labels, train.groups)
    if smallest < min_images:
        return []
    splits: Iterable[tuple[IntArray, IntArray]]
    if smallest == 2 and len(train.labels) <= MOST_ALONE:
        splits = each_alone(train.labels, train.groups)
    else:
        number = min(folds_at_most, smallest)
        splits = folds(train.labels, n_folds=number, rng=rng, groups=train.groups)
    return [(part(train, rest), part(train, held_out)) for rest, held_out in splits]


def trials_of(
    train: TrainingSet, *, config: CacheConfig, rng: np.random.Generator
) -> list[tuple[TrainingSet, TrainingSet]]:
    """`trial_sets` of a configuration; none where there is nothing to choose from."""
    if len(config.alphas) * len(config.betas) == 1:
        return []
    return trial_sets(train, folds_at_most=config.folds, min_images=config.min_images, rng=rng)


def part(train: TrainingSet, images: IntArray) -> TrainingSet:
    """Some images of a set."""
    groups = None if train.groups is None else train.groups[images]
    return replace(
        train, features=train.features[images], labels=train.labels[images], groups=groups
    )


def choose(trials: Sequence[Trial], texts: Texts, *, config: CacheConfig) -> tuple[float, float]:
    """The alpha and beta with the most held-out images right.

    Of equals the pair with the least log-loss, then the smaller alpha, then the smaller beta.
    Without a trial, the start values, or the only pair of the grid.
    """
    alphas, betas = sorted(set(config.alphas)), sorted(set(config.betas))
    if len(alphas) * len(betas) == 1:
        return alphas[0], betas[0]
    if not trials:
        return config.alpha, config.beta
    scores = np.sum([score(trial, texts, alphas=alphas, betas=betas) for trial in trials], axis=0)
    pairs = np.stack(np.meshgrid(alphas, betas, indexing="ij"), axis=-1).reshape(-1, 2)
    wrong, loss = scores.reshape(-1, 2).T
    best = np.lexsort((pairs[:, 1], pairs[:, 0], loss, wrong))[0]
    return float(pairs[best, 0]), float(pairs[best, 1])


def score(
    trial: Trial, texts: Texts, *, alphas: Sequence[float], betas: Sequence[float]
) -> NDArray[np.float64]:
    """``(len(alphas), len(betas), 2)``: held-out images that are wrong, and their log-loss."""
    features, truth = trial.held_out.features, trial.held_out.labels
    unit = normalise(view_rows(features))
    affinity, zero = unit @ trial.keys.T, texts.zero_shot(unit)
    values = one_hot(trial.rest)
    scores = np.zeros((len(alphas), len(betas), 2))
    for column, beta in enumerate(betas):
        cache = read(affinity, values, beta=beta)
        for row, alpha in enumerate(alphas):
            probabilities = mean_probabilities(zero + alpha * cache, views=features.shape[1])
            wrong = int((probabilities.argmax(axis=1) != truth).sum())
            scores[row, column] = wrong, log_losses(probabilities, truth).sum()
    return scores
