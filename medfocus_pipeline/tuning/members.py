"""What trainings are between two epochs, and what an epoch showed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.config.tuning import FinetuneConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.tuning.sources import Source
from medfocus_pipeline.types import IntArray

if TYPE_CHECKING:
    from torch import Tensor


class DivergedError(DataError):
    """A training whose loss is no number any more."""


@dataclass(frozen=True, slots=True, eq=False)
class Subset:
    """What is learned from.

    Attributes:
        source: pictures of the n images.
        labels: ``(n,) int64``.
        groups: ``(n,) int64``, see `TrainingSet`.
        classes: K.
        seed: words that name the run's generators.
    """

    source: Source
    labels: IntArray
    groups: IntArray | None
    classes: int
    seed: tuple[int | str, ...]


@dataclass(slots=True)
class Member:
    """One training among those that go on side by side, as it is between two epochs.

    Attributes:
        rows: positions of its images in the subset.
        tensors: what is trained, by name, on the CPU.
        optimizer: its state; empty before the first epoch.
    """

    rows: IntArray
    tensors: "dict[str, Tensor]"
    optimizer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Passed:
    """What an epoch showed of its images: mean loss, and share that was right."""

    loss: float
    accuracy: float


def diverged(epoch: int, config: FinetuneConfig) -> DivergedError:
    """What to say of a training whose loss is no number any more."""
    return DivergedError(
        f"The training diverged: its loss is no number any more in epoch {epoch}, with a learning "
        f"rate of {config.learning_rate:g}. Run again with --learning-rate "
        f"{config.learning_rate / 10:g}"
    )


def mean_passed(parts: Sequence[Passed]) -> Passed:
    """Of members alike."""
    return Passed(
        float(np.mean([one.loss for one in parts])), float(np.mean([one.accuracy for one in parts]))
    )
