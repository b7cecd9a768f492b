"""What a method of domain adaptation is, and what it is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Source domains and a target, on cached features. No label of the target is in it.

    Attributes:
        source: ``(n, v, d) float32``, training images of the sources; view 0 is the unchanged one.
        labels: ``(n,) int64`` in 0 .. classes - 1.
        domains: ``(n,) int64`` in 0 .. D - 1, which source an image is of.
        groups: ``(n,) int64``; images of one group (a patient, equal bytes) are never on both
            sides of a fold.
        target: ``(m, v, d) float32``, training images of the target.
        test: ``(t, d) float32``, view 0 of the target's test images.
        classes: K, of the study.
    """

    source: FloatArray
    labels: IntArray
    domains: IntArray
    groups: IntArray
    target: FloatArray
    test: FloatArray
    classes: int

    def train(self, rows: IntArray) -> TrainingSet:
        """What a head is given of some rows of the source."""
        return TrainingSet(
            self.source[rows], self.labels[rows], self.classes, None, groups=self.groups[rows]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Adapted:
    """What a method says about the target's test images.

    Attributes:
        probabilities: ``(S, t, K) float32``, rows sum to 1; one a seed.
        choices: S of them: what was chosen (C, weights), without any label of the target.
        projected: what the first seed's classifier sees of its subset of the source ``(s, p)``
            and of the target ``(m, p)``, view 0, float32; None where that is the features
            themselves.
    """

    probabilities: FloatArray
    choices: tuple[Mapping[str, float | str], ...]
    projected: tuple[FloatArray, FloatArray] | None = None


class Method(Protocol):
    """A way to classify a target's images with labels of other domains alone.

    Contract: a pure function of the task, the subsets and the seeds; every choice is made by the
    source's labels and what needs no label. What a seed gives does not depend on the others.
    """

    def adapt(self, task: Task, subsets: Sequence[IntArray], seeds: Sequence[int]) -> Adapted:
        """Fit one run a seed and classify the test images.

        Args:
            subsets: rows of the source that each seed trains on.
            seeds: one for each subset.

        Raises:
            DataError: the domains cannot train this method.
        """


def check(task: Task) -> None:
    """Refuse a task whose arrays do not belong together.

    Raises:
        DataError: shapes that do not fit, or features of the target that are not finite.
    """
    n, views, dim = task.source.shape
    lengths = {len(task.labels), len(task.domains), len(task.groups)}
    if lengths != {n} or task.target.shape[1:] != (views, dim) or task.test.shape[1:] != (dim,):
        raise DataError(
            f"Source features {task.source.shape} do not fit {sorted(lengths)} labels, domains and "
            f"groups, target features {task.target.shape} and test features {task.test.shape}. "
            "Embed every domain of a study with one encoder and the same views."
        )
    if not (np.isfinite(task.target).all() and np.isfinite(task.test).all()):
        raise DataError(
            "Features of the target have values that are not finite. Run: medfocus cache verify, "
            "then embed again."
        )
