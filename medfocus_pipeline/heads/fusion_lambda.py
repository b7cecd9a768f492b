"""The fusion's lambda, chosen by cross-validation inside the subset."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import FusionConfig
from medfocus_pipeline.heads.common import log_losses
from medfocus_pipeline.heads.folds import folds, smallest_class
from medfocus_pipeline.heads.fusion_mix import Weights, fuse_inside, keys
from medfocus_pipeline.heads.fusion_space import Space
from medfocus_pipeline.heads.fusion_train import Training, train_fusions
from medfocus_pipeline.heads.linear import TRIAL_TOLERANCE, fit_rows
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.row_space import RowSpace
from medfocus_pipeline.types import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One subset and seed, before the fusion is trained.

    Attributes:
        train: the subset.
        space: the subset in the space that image and text share.
        axes: ``(D, r) float64``, the `RowSpace.basis` of I.
        c: inverse regularisation of the classifier.
        seed: of the fusion's first weights and batches.
        fold_seed: of the folds.
    """

    train: TrainingSet
    space: Space
    axes: NDArray[np.float64]
    c: float
    seed: int
    fold_seed: int

    def training(self, images: IntArray, *, mix: float) -> Training:
        """The training on some of the images."""
        views = self.train.features.shape[1]
        rows = (images[:, None] * views + np.arange(views)).ravel()
        return Training(self.space, rows, mix, self.seed)

    def folds(self, number: int) -> Iterator[tuple[IntArray, IntArray]]:
        """Positions of the images (training, held out) of each stratified fold."""
        train, rng = self.train, np.random.default_rng(self.fold_seed)
        number = min(number, self.smallest())
        yield from folds(train.labels, n_folds=number, rng=rng, groups=train.groups)

    def smallest(self) -> int:
        """Images, or groups of them, of the smallest class that has any."""
        return smallest_class(self.train.labels, self.train.groups)


@dataclass(frozen=True, slots=True)
class LambdaCurve:
    """What cross-validation inside one subset says of each lambda.

    Attributes:
        lambdas: ascending.
        log_losses: mean over the held-out images, then over the folds.
        accuracies: of the same images, 0 .. 1.
    """

    lambdas: tuple[float, ...]
    log_losses: tuple[float, ...]
    accuracies: tuple[float, ...]

    @property
    def best(self) -> float:
        """The lambda of least log-loss, the smaller one of equals."""
        return self.lambdas[int(np.argmin(self.log_losses))]


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One lambda on one fold of one run, each its place in its sequence.

    Attributes:
        images: positions of the images to train on.
        held_out: and of the others.
    """

    run: int
    mix: int
    fold: int
    images: IntArray
    held_out: IntArray


def curves(
    runs: Sequence[Run], lambdas: Sequence[float], *, config: FusionConfig
) -> list[LambdaCurve]:
    """The curve of each run; all folds, lambdas and runs train side by side.

    A lambda is judged as the head will use it: F is trained on the rest of the images, then
    logistic regression on their M, with the C of the run, classifies the held-out images. C
    of the paper would be cheaper, but lambda = 1 does not train it. Regression reads M B, not
    M, for speed: outside the space of B, M is I whatever lambda is.

    Folds are `config.loss_mix_folds`, or as many as the smallest class has images; that is two
    or more.
    """
    grid = sorted(set(lambdas))
    trials = [
        Trial(number, mix, fold, images, held_out)
        for number, run in enumerate(runs)
        for fold, (images, held_out) in enumerate(run.folds(config.loss_mix_folds))
        for mix in range(len(grid))
    ]
    trials.sort(key=lambda trial: len(trial.images))  # equal sizes train side by side
    trainings = [runs[trial.run].training(trial.images, mix=grid[trial.mix]) for trial in trials]
    scores: list[dict[tuple[int, int], tuple[float, float]]] = [{} for _ in runs]
    for trial, weights in zip(trials, train_fusions(trainings, config=config), strict=True):
        score = judge(runs[trial.run], trial, weights, config=config)
        scores[trial.run][trial.mix, trial.fold] = score
    return [curve(grid, score) for score in scores]


def curve(grid: Sequence[float], scores: dict[tuple[int, int], tuple[float, float]]) -> LambdaCurve:
    """Scores of (lambda, fold), each log-loss and accuracy, averaged over the folds."""
    means: list[NDArray[np.float64]] = [
        np.mean([scores[key] for key in sorted(scores) if key[0] == mix], axis=0)
        for mix in range(len(grid))
    ]
    return LambdaCurve(
        tuple(grid),
        tuple(float(mean[0]) for mean in means),
        tuple(float(mean[1]) for mean in means),
    )


def judge(run: Run, trial: Trial, weights: Weights, *, config: FusionConfig) -> tuple[float, float]:
    """Log-loss and accuracy of the held-out images."""
    import torch

    with torch.inference_mode():
        fused = fuse_inside(weights, keys(weights), run.space.x, run.space.length, config).numpy()
    train, images = run.train, trial.images
    inside = fused.reshape(*train.features.shape[:2], -1)
    part = replace(train, features=inside[images], labels=train.labels[images])
    space = RowSpace.of(part.features)
    fitted = fit_rows(space, part, c=run.c, tolerance=TRIAL_TOLERANCE)
    probabilities = fitted.predict_proba(inside[trial.held_out])
    truth = train.labels[trial.held_out]
    log_loss = log_losses(probabilities, truth).mean()
    return float(log_loss), float((probabilities.argmax(axis=1) == truth).mean())
