"""CORAL and subspace alignment: the source's features made to look like the target's.

A logistic regression is then fitted on them.

Both begin, as their authors do, by standardising each domain by its own mean and deviations, so
that correlations are what is left to align. Test images are standardised as the target's training
images. None of it needs a label.

CORAL (Sun et al. 2016, "Return of frustratingly easy domain adaptation", algorithm 1) whitens each
source and gives it the target's covariance, both with a multiple of the identity added:

    S (C_s + r I)^(-1/2) (C_t + r I)^(1/2)

Subspace alignment (Fernando et al. 2013, "Unsupervised visual domain adaptation using subspace
alignment", equations 2 to 4) turns the first p principal axes of the source, X_s, into the
target's, X_t: the source becomes S X_s X_s^T X_t, the target T X_t. p is chosen by
cross-validation on the source's labels, as there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medfocus_pipeline.adaptation.alone import generators
from medfocus_pipeline.adaptation.protocol import Adapted, Task, check
from medfocus_pipeline.config import LinearConfig
from medfocus_pipeline.config.adaptation import CoralConfig, StandardisedConfig, SubspaceConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.heads.common import check as check_train
from medfocus_pipeline.heads.descent import Matrix
from medfocus_pipeline.heads.folds import folds, smallest_class
from medfocus_pipeline.heads.linear import (
    FittedLinear,
    LinearHead,
    choose_c,
    fit_rows,
    held_out_loss,
)
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.row_space import RowSpace
from medfocus_pipeline.types import FloatArray, IntArray

TINY = 1e-12
"""Keeps a dimension that is constant from dividing by zero."""


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """Both domains in one space.

    Attributes:
        source: ``(n, v, p) float32``.
        target: ``(m, v, p) float32``.
        test: ``(t, 1, p) float32``.
    """

    source: FloatArray
    target: FloatArray
    test: FloatArray


Run = tuple[Aligned, FittedLinear, dict[str, float]]
"""What a seed gives: the domains, their classifier, and what was chosen."""


@dataclass(frozen=True, slots=True)
class Standardised:
    """Each domain by its own mean and deviations, and no more: what the others here begin with."""

    config: StandardisedConfig

    def adapt(self, task: Task, subsets: Sequence[IntArray], seeds: Sequence[int]) -> Adapted:
        """One logistic regression a seed."""
        head = self.config.head
        return each_seed(
            *(task, subsets, seeds),
            lambda domains, train, _, rng: regression(domains, train, head, rng),
        )


@dataclass(frozen=True, slots=True)
class Coral:
    """Correlation alignment; see the module."""

    config: CoralConfig

    def adapt(self, task: Task, subsets: Sequence[IntArray], seeds: Sequence[int]) -> Adapted:
        """One closed form and one logistic regression a seed."""

        def fit(
            domains: Aligned, train: TrainingSet, rows: IntArray, rng: np.random.Generator
        ) -> Run:
            aligned = recoloured(domains, task.domains[rows], added=self.config.added)
            return regression(aligned, train, self.config.head, rng)

        return each_seed(task, subsets, seeds, fit)


@dataclass(frozen=True, slots=True)
class Subspace:
    """Subspace alignment; see the module."""

    config: SubspaceConfig

    def adapt(self, task: Task, subsets: Sequence[IntArray], seeds: Sequence[int]) -> Adapted:
        """One pair of subspaces and one logistic regression a seed."""
        return each_seed(
            *(task, subsets, seeds),
            lambda domains, train, _, rng: self._fit(domains, train, rng),
        )

    def _fit(self, domains: Aligned, train: TrainingSet, rng: np.random.Generator) -> Run:
        """The fewest axes with the least held-out loss; the fewest of all without a fold."""
        head = self.config.head
        source, target = principal_axes(domains.source), principal_axes(domains.target)
        most = min(source.shape[1], target.shape[1])
        n_folds = min(head.folds, smallest_class(train.labels, train.groups))
        splits = []
        if n_folds >= head.min_images:
            splits = list(folds(train.labels, n_folds=n_folds, rng=rng, groups=train.groups))
        runs, losses = [], []
        for width in sorted({min(width, most) for width in self.config.widths}):
            aligned = in_subspace(domains, source[:, :width], target[:, :width])
            told = replace(train, features=aligned.source)
            space = RowSpace.of(told.features)
            c = choose_c(space.rows, told.labels, config=head, rng=rng, groups=told.groups)
            losses.append(held_out_loss(space.rows, told.labels, splits, c=c) if splits else 0)
            runs.append((aligned, fit_rows(space, told, c=c), {"C": c, "width": width}))
        return runs[int(np.argmin(losses))]


def each_seed(
    task: Task,
    subsets: Sequence[IntArray],
    seeds: Sequence[int],
    fit: Callable[[Aligned, TrainingSet, IntArray, np.random.Generator], Run],
) -> Adapted:
    """What the runs say of the test images.

    Args:
        task, subsets, seeds: as a method gets them.
        fit: standardised domains, what is learned from, its rows of the source, and what is
            drawn from.
    """
    check(task)
    found = []
    for rows, rng in zip(subsets, generators(seeds), strict=True):
        train = task.train(rows)
        check_train(train)
        with single_threaded():
            found.append(fit(standardised(task, rows), train, rows, rng))
    first, _, _ = found[0]
    return Adapted(
        np.stack([fitted.predict_proba(one.test) for one, fitted, _ in found]).astype(np.float32),
        tuple(choice for _, _, choice in found),
        (first.source[:, 0], first.target[:, 0]),
    )


def regression(
    aligned: Aligned, train: TrainingSet, head: LinearConfig, rng: np.random.Generator
) -> Run:
    """A logistic regression on the aligned source."""
    fitted = LinearHead(head).fit(replace(train, features=aligned.source), rng)
    return aligned, fitted, {"C": fitted.chosen["C"]}


def standardised(task: Task, rows: IntArray) -> Aligned:
    """Every domain with mean 0 and variance 1 in each dimension."""
    source, domains = task.source[rows], task.domains[rows]
    for domain in np.unique(domains):
        own = domains == domain
        source[own] = scaled(source[own], source[own])
    return Aligned(
        source, scaled(task.target, task.target), scaled(task.test[:, None], task.target)
    )


def scaled(features: FloatArray, by: FloatArray) -> FloatArray:
    """Features ``(.., v, d)`` less the mean of `by` and divided by its deviations."""
    result: FloatArray = (features - by.mean(axis=(0, 1))) / np.maximum(by.std(axis=(0, 1)), TINY)
    return result


def recoloured(domains: Aligned, numbers: IntArray, *, added: float) -> Aligned:
    """CORAL: each source with the target's covariance.

    Args:
        domains: standardised.
        numbers: ``(n,) int64``, which source an image is of.
        added: r, > 0.
    """
    source = np.empty_like(domains.source)
    for number in np.unique(numbers):
        own = domains.source[numbers == number]
        white = multiplied(own, own, power=-0.5, added=added)
        source[numbers == number] = multiplied(white, domains.target, power=0.5, added=added)
    return replace(domains, source=source)


def multiplied(features: FloatArray, by: FloatArray, *, power: float, added: float) -> FloatArray:
    """Features times a power of a covariance: F (C + r I)^power.

    Along the principal axes of `by` that is a factor each, and r^power beside them.

    Args:
        features: ``(n, v, d) float32``.
        by: ``(m, v, d) float32``, whose covariance is C.
        power: of it.
        added: r, > 0.
    """
    space = RowSpace.of(by)
    count = by.shape[0] * by.shape[1]
    variances = np.square(space.rows).sum(axis=(0, 1)) / max(count - 1, 1)
    beside = added**power
    rows = features.astype(np.float64)  # the two parts of the sum may nearly cancel
    along = (rows @ space.basis) * ((variances + added) ** power - beside)
    product: FloatArray = (beside * rows + along @ space.basis.T).astype(np.float32)
    return product


def principal_axes(features: FloatArray) -> Matrix:
    """``(d, r) float64``, orthonormal columns, that of the greatest variance first."""
    space = RowSpace.of(features)
    lengths = np.square(space.basis).sum(axis=0)
    return space.basis[:, lengths > 0.5][:, ::-1]


def in_subspace(domains: Aligned, source: Matrix, target: Matrix) -> Aligned:
    """Both domains along the target's axes, the source turned onto them.

    Args:
        domains: standardised.
        source: ``(d, p)``, axes of the source.
        target: ``(d, p)``, axes of the target.
    """
    turned = source @ (source.T @ target)
    return Aligned(
        (domains.source @ turned).astype(np.float32),
        (domains.target @ target).astype(np.float32),
        (domains.test @ target).astype(np.float32),
    )
