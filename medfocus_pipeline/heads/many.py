"""Many small trainings side by side: every tensor has a leading dimension of runs, B.

The loss is summed over runs and no run reads another's weights, so that each has the gradient
that it has alone; AdamW and SGD are elementwise. Each run draws from its own generator, and runs
that need another number of steps train apart, so that a run's course does not depend on its
company.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from medfocus_pipeline.config import MlpConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.common import check
from medfocus_pipeline.heads.protocol import FittedHead, Head, ManyHead, TrainingSet
from medfocus_pipeline.types import FloatArray, IntArray

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

Result = TypeVar("Result")
Set = TypeVar("Set", bound=TrainingSet)

MOST_BYTES = 512 * 2**20
"""Of features that train side by side, which bounds the memory."""


@dataclass(frozen=True, slots=True)
class Minibatch:
    """Images of B runs, each drawn from its own training set.

    Attributes:
        x: ``(B, b, d) float32``, one view of each image.
        labels: ``(B, b) int64``.
        weights: ``(B, b) float32``, sum 1 in each run; 0 for a row that only fills up.
    """

    x: "Tensor"
    labels: "Tensor"
    weights: "Tensor"


def fit_all(
    head: Head, trains: Sequence[TrainingSet], rngs: Sequence[np.random.Generator]
) -> Sequence[FittedHead]:
    """A head on every set, side by side where it can."""
    if isinstance(head, ManyHead):
        return head.fit_many(trains, rngs)
    return [head.fit(train, rng) for train, rng in zip(trains, rngs, strict=True)]


def in_groups(
    trains: Sequence[Set],
    rngs: Sequence[np.random.Generator],
    *,
    train: Callable[[list[Set], list[np.random.Generator]], Sequence[Result]],
    batch_size: int = 1,
) -> list[Result]:
    """Train sets side by side that have as many steps an epoch, as far as memory allows.

    Args:
        train: gives one result for each set of a call, of which each has its generator.
        batch_size: of a step; with 1, sets of as many images train together.

    Returns:
        One result for each set, in their order.

    Raises:
        DataError: no classifier can learn from a set.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for position, one in enumerate(trains):
        check(one)
        groups[steps_per_epoch(one, batch_size=batch_size)].append(position)
    results: dict[int, Result] = {}
    for positions in groups.values():
        most = max(1, MOST_BYTES // max(trains[position].features.nbytes for position in positions))
        for start in range(0, len(positions), most):
            part = positions[start : start + most]
            fitted = train([trains[one] for one in part], [rngs[one] for one in part])
            results.update(zip(part, fitted, strict=True))
    return [results[position] for position in range(len(trains))]


def steps_per_epoch(train: TrainingSet, *, batch_size: int) -> int:
    """Minibatches that show each image once."""
    return math.ceil(len(train.labels) / batch_size)


def all_steps(train: TrainingSet, *, config: MlpConfig) -> int:
    """Steps of all epochs, at least `config.least_steps`: a small subset is shown more often."""
    steps = steps_per_epoch(train, batch_size=config.batch_size)
    return steps * max(config.epochs, math.ceil(config.least_steps / steps))


def minibatches(
    trains: Sequence[TrainingSet],
    rngs: Sequence[np.random.Generator],
    *,
    epochs: int,
    batch_size: int,
) -> Iterator[Minibatch]:
    """Minibatches of several sets that have the same number of steps an epoch, and dimension.

    An epoch shows each image once, by a view that is drawn for it, in parts of about equal size.
    Each set's order and views are drawn from its own generator.

    Args:
        batch_size: the most images of a run in a minibatch.
    """
    steps = steps_per_epoch(trains[0], batch_size=batch_size)
    for _ in range(epochs):
        orders = [
            np.array_split(rng.permutation(len(train.labels)), steps)
            for train, rng in zip(trains, rngs, strict=True)
        ]
        for step in range(steps):
            yield gather(trains, [order[step] for order in orders], rngs)


def gather(
    trains: Sequence[TrainingSet],
    images: Sequence[IntArray],
    rngs: Sequence[np.random.Generator],
) -> Minibatch:
    """One view of the given images of each set; rows without an image are zero."""
    import torch

    size = max(len(rows) for rows in images)
    dim = trains[0].features.shape[2]
    x = np.zeros((len(trains), size, dim), np.float32)
    labels = np.zeros((len(trains), size), np.int64)
    weights = np.zeros((len(trains), size), np.float32)
    for run, (train, rows, rng) in enumerate(zip(trains, images, rngs, strict=True)):
        views = rng.integers(train.features.shape[1], size=len(rows))
        x[run, : len(rows)] = train.features[rows, views]
        labels[run, : len(rows)] = train.labels[rows]
        weights[run, : len(rows)] = 1 / len(rows)
    return Minibatch(torch.from_numpy(x), torch.from_numpy(labels), torch.from_numpy(weights))


def cross_entropy(logits: "Tensor", batch: Minibatch) -> "Tensor":
    """Mean over each run's images, summed over the runs: a scalar, of logits ``(B, b, K)``."""
    from torch.nn import functional

    losses = functional.cross_entropy(
        logits.flatten(0, 1), batch.labels.flatten(), reduction="none"
    )
    return (losses * batch.weights.flatten()).sum()


def descend(
    optimiser: "Optimizer",
    batches: Iterable[Minibatch],
    loss: Callable[[Minibatch], "Tensor"],
    *,
    steps: int,
) -> None:
    """Take one step a minibatch, the learning rate falling to 0 along a cosine.

    Args:
        optimiser: elementwise (AdamW, SGD), over tensors ``(B, ...)``.
        batches: `steps` of them.
        loss: summed over runs.
        steps: length of the cosine.

    Raises:
        DataError: a weight is not finite in the end.
    """
    import torch

    rate = optimiser.param_groups[0]["lr"]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    for batch in batches:
        optimiser.zero_grad()
        torch.autograd.backward(loss(batch))
        optimiser.step()
        schedule.step()
    learned = [weight for group in optimiser.param_groups for weight in group["params"]]
    if not all(bool(weight.isfinite().all()) for weight in learned):
        raise DataError(
            "The head's training diverged: it has weights that are not finite. Use a "
            f"learning_rate below {rate:g}."
        )


def drawn(rngs: Sequence[np.random.Generator], *shape: int) -> "Tensor":
    """``(B, *shape) float32``, uniform in [-1, 1): each run's part from its own generator."""
    import torch

    parts: list[FloatArray] = [rng.random(shape, dtype=np.float32) for rng in rngs]
    return torch.from_numpy(np.stack(parts)) * 2 - 1
