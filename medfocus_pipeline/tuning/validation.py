"""What chooses inside a subset: a part that is held out, or several in turn."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config.tuning import FinetuneConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.common import log_losses
from medfocus_pipeline.heads.folds import folds, smallest_class
from medfocus_pipeline.types import IntArray

LEAST_OF_A_CLASS = 2
"""Images of each class, or groups of them: one to learn from, one to judge by."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Positions in the subset.

    Attributes:
        train: ``(n,) int64``.
        held_out: ``(m,) int64``; none where nothing is held out.
    """

    train: IntArray
    held_out: IntArray


def choosing_parts(
    labels: IntArray, groups: IntArray | None, config: FinetuneConfig, rng: np.random.Generator
) -> list[Part]:
    """One part that holds every class, or the folds of a cross-validation; groups stay together.

    Args:
        labels: ``(n,) int64`` of the subset.
        groups: ``(n,) int64``, see `TrainingSet`.
        config: how much is held out.
        rng: draws the parts.

    Raises:
        DataError: a class has fewer than two images (or groups), or no part that leaves every
            class something to learn from can be held out.
    """
    if config.validation == "none":
        return [Part(np.arange(len(labels)), np.empty(0, np.int64))]
    smallest = smallest_class(labels, groups)
    if smallest < LEAST_OF_A_CLASS:
        of = "image" if groups is None else "image, or one patient,"
        raise DataError(
            f"A class has one {of} among the {len(labels)} of the subset: fine-tuning needs two "
            "to choose the number of epochs by. Take a larger fraction or more shots."
        )
    if smallest * config.validation_share >= config.least_validation:
        number = max(2, round(1 / config.validation_share))
        for rest, held_out in folds(labels, n_folds=number, rng=rng, groups=groups):
            if set(labels[held_out]) == set(labels):
                return [Part(rest, held_out)]
    several = folds(labels, n_folds=min(config.folds, smallest), rng=rng, groups=groups)
    found = [Part(rest, held_out) for rest, held_out in several]
    if not found:
        raise DataError(
            f"No part of the {len(labels)} images of the subset can be held out so that every "
            "class is on both sides: patients have too many of them. Take a larger fraction, or "
            "--set run.validation=none with a fixed number of epochs."
        )
    return found


def balanced_loss(probabilities: NDArray[np.float64], labels: IntArray) -> float:
    """Mean over the classes of the mean log-loss of their images, so that a rare class counts.

    Args:
        probabilities: ``(n, K)``.
        labels: ``(n,) int64``.
    """
    losses = log_losses(probabilities, labels)
    return float(np.mean([losses[labels == one].mean() for one in np.unique(labels)]))
