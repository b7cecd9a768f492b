"""DANN and CDAN: hidden features that classify images and do not tell their domain.

DANN (Ganin et al. 2016, "Domain-adversarial training of neural networks") is the network of the
head `mlp` with a second classifier on its last hidden layer, of the image's domain. Between the
two stands the reversal, which is the identity forwards and turns the gradient around on its way
back: the domain classifier learns to tell the domains, the hidden layers learn that it cannot.

    loss = CE(class of the source's images) + CE(domain of R(hidden))
    R(x) = x,  dR/dx = -weight (2 / (1 + exp(-10 p)) - 1) I

with p in [0, 1], the progress of the training (sections 4.2 and 5.2 there).

CDAN (Long et al. 2018, "Conditional adversarial domain adaptation") classifies the domain of the
outer product of the hidden features with the probabilities of the classes; no gradient goes
through the probabilities, as in its authors' code.

Each step shows the domain classifier as many images of one domain as of any other. Labels are the
source's alone. Without a second domain its loss is 0, and what is left is `mlp`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from medfocus_pipeline.adaptation.alone import classified, generators
from medfocus_pipeline.adaptation.protocol import Adapted, Task
from medfocus_pipeline.adaptation.protocol import check as check_task
from medfocus_pipeline.adaptation.selection import held_apart, risk
from medfocus_pipeline.config import AugmentedDannConfig, CdanConfig, DannConfig
from medfocus_pipeline.heads.linear import check
from medfocus_pipeline.heads.many import (
    Minibatch,
    all_steps,
    cross_entropy,
    gather,
    in_groups,
    steps_per_epoch,
)
from medfocus_pipeline.heads.mlp import FittedMlp, Network, Scaling, train_networks
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.threads import single_threaded
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import IntArray

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSet(TrainingSet):
    """A training set, and the images of all domains that it must not be told from.

    Attributes:
        pool: all images of the task; its labels are their domains.
        members: rows of the pool, those of each domain.
        weight: of the reversed gradient in the end.
        draws: of the domain classifier's weights and images.
    """

    pool: TrainingSet
    members: tuple[IntArray, ...]
    weight: float
    draws: np.random.Generator


@dataclass(frozen=True, slots=True)
class Adversarial:
    """DANN, or CDAN; see the module."""

    config: DannConfig | AugmentedDannConfig | CdanConfig

    def adapt(self, task: Task, subsets: Sequence[IntArray], seeds: Sequence[int]) -> Adapted:
        """One network a seed, side by side, after the trials that choose its weight."""
        check_task(task)
        pool = pooled(task)
        with single_threaded("torch"):
            weights = self.choose(task, pool, subsets, seeds)
            sets = [
                domain_set(task, pool, rows, weight=weight, seed=seed)
                for rows, weight, seed in zip(subsets, weights, seeds, strict=True)
            ]
            fitted = self.fit(sets, generators(seeds))
        adapted = classified(fitted, task, subsets, seen=fitted[0].hidden)
        return replace(adapted, choices=tuple({"weight": weight} for weight in weights))

    def choose(
        self, task: Task, pool: TrainingSet, subsets: Sequence[IntArray], seeds: Sequence[int]
    ) -> list[float]:
        """The weight of each seed: that of the trial with the least risk, the smaller of equals.

        All trials of a seed start from the same weights and see the same images. Where too few
        images can be held out, it is the middle one without a trial.
        """
        grid = sorted(set(self.config.weights))
        chosen = [grid[len(grid) // 2]] * len(seeds)
        if len(grid) == 1:
            return chosen
        splits = [
            held_apart(task, rows, parts=self.config.folds, rng=generator("held out", seed))
            for rows, seed in zip(subsets, seeds, strict=True)
        ]
        trials = [
            (place, split, weight)
            for place, split in enumerate(splits)
            if split is not None
            for weight in grid
        ]
        shown = {
            place: domain_set(task, pool, split[0], weight=0, seed=seeds[place])
            for place, split in enumerate(splits)
            if split is not None
        }
        fitted = self.fit(
            [
                replace(shown[place], weight=weight, draws=domain_draws(seeds[place]))
                for place, _, weight in trials
            ],
            [generator("trial", seeds[place]) for place, _, _ in trials],
        )
        least = [math.inf] * len(seeds)
        for (place, split, weight), one in zip(trials, fitted, strict=True):
            rng = generator("risk", seeds[place])
            judged = risk(one, task, split, criterion=self.config.criterion, rng=rng)
            if judged < least[place]:
                least[place], chosen[place] = judged, weight
        return chosen

    def fit(
        self, sets: Sequence[DomainSet], rngs: Sequence[np.random.Generator]
    ) -> list[FittedMlp]:
        """One network a set."""
        for one in sets:
            check(one)
        size = self.config.network.batch_size
        return in_groups(
            sets, rngs, alike=lambda one: steps_per_epoch(one, batch_size=size), train=self.train
        )

    def train(self, sets: list[DomainSet], rngs: list[np.random.Generator]) -> list[FittedMlp]:
        """Train sets of the same number of steps."""
        config = self.config
        domains = Domains.initial(sets, config)

        def loss(network: Network, batch: Minibatch) -> "Tensor":
            classes = cross_entropy(network.outputs(network.hidden(batch.x)), batch)
            return classes + domains.loss(network)

        return train_networks(
            sets,
            rngs,
            config=config.network,
            outputs=sets[0].n_classes,
            loss=loss,
            beside=domains.classifier.weights,
        )


def pooled(task: Task) -> TrainingSet:
    """All images of a task with their domains for labels, the target's the last."""
    target = np.full(len(task.target), task.domains.max() + 1)
    _, domains = np.unique(np.concatenate([task.domains, target]), return_inverse=True)
    features = np.concatenate([task.source, task.target])
    return TrainingSet(features, domains, int(domains.max()) + 1, None)


def domain_set(
    task: Task, pool: TrainingSet, rows: IntArray, *, weight: float, seed: int
) -> DomainSet:
    """What a run trains on: some rows of the source, and all images of the target."""
    seen = np.concatenate([rows, np.arange(len(task.source), len(pool.labels))])
    domains = pool.labels[seen]
    members = tuple(seen[domains == one] for one in np.unique(domains))
    return DomainSet(
        task.source[rows],
        task.labels[rows],
        task.classes,
        None,
        groups=task.groups[rows],
        pool=pool,
        members=members,
        weight=weight,
        draws=domain_draws(seed),
    )


def domain_draws(seed: int) -> np.random.Generator:
    """What the domain classifier of a seed draws from: none of it is missing elsewhere."""
    return generator("domains", seed)


@dataclass(slots=True, eq=False)
class Domains:
    """The domain classifiers of B runs.

    Attributes:
        sets: of the runs.
        classifier: two layers on the reversed hidden features.
        weights: ``(B, 1, 1) float32``, of the reversed gradient in the end.
        conditional: whether it sees the product with the probabilities.
        size: images of each domain in a step.
        steps: of the whole training.
        step: the one that comes next.
    """

    sets: Sequence[DomainSet]
    classifier: Network
    weights: "Tensor"
    conditional: bool
    size: int
    steps: int
    step: int = 0

    @classmethod
    def initial(
        cls, sets: Sequence[DomainSet], config: DannConfig | AugmentedDannConfig | CdanConfig
    ) -> "Domains":
        """Before training."""
        import torch

        conditional = isinstance(config, CdanConfig)
        inputs = config.network.widths[-1] * (sets[0].n_classes if conditional else 1)
        domains = sets[0].pool.n_classes
        as_it_is = Scaling(np.zeros(inputs, np.float32), 1.0)
        return cls(
            sets,
            Network.initial(
                [as_it_is for _ in sets],
                [one.draws for one in sets],
                (inputs, config.width, domains),
            ),
            torch.tensor([one.weight for one in sets])[:, None, None],
            conditional,
            max(1, config.network.batch_size // domains),
            all_steps(sets[0], config=config.network),
        )

    def loss(self, network: Network) -> "Tensor":
        """Of images of all domains, drawn anew, one step further; a sum over runs."""
        batch = gather(
            [one.pool for one in self.sets],
            [drawn_rows(one, self.size) for one in self.sets],
            [one.draws for one in self.sets],
        )
        seen = network.hidden(batch.x)
        if self.conditional:
            probabilities = network.outputs(seen).softmax(dim=2).detach()
            seen = (seen[..., None] * probabilities[..., None, :]).flatten(2)
        seen = reverse(seen, self.weights * ramp(self.step / self.steps))
        self.step += 1
        return cross_entropy(self.classifier.outputs(self.classifier.hidden(seen)), batch)


def drawn_rows(one: DomainSet, size: int) -> IntArray:
    """Rows of the pool, `size` of each domain, with replacement."""
    return np.concatenate([one.draws.choice(rows, size) for rows in one.members])


def ramp(progress: float) -> float:
    """From 0 to nearly 1 as the training goes on: 2 / (1 + exp(-10 p)) - 1."""
    return 2 / (1 + math.exp(-10 * progress)) - 1


def reverse(x: "Tensor", weight: "Tensor") -> "Tensor":
    """The same values, whose gradient is -weight times what comes back.

    Args:
        x: ``(B, b, w)``.
        weight: ``(B, 1, 1)``.
    """
    held = x.detach()
    return held + weight * (held - x)
