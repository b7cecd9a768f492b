"""DANN and CDAN: hidden features that classify images and do not tell their domain.

DANN (Ganin et al. 2016, "Domain-adversarial training of neural networks") is the network of the
head `mlp` with a second classifier on its last hidden layer, of the image's domain. Between the
two stands a reversal, which turns the gradient around on its way back: the domain classifier
learns to tell the domains, the hidden layers learn that it cannot. CDAN (Long et al. 2018,
"Conditional adversarial domain adaptation") shows it the classes' probabilities as well. See
`adaptation.domain_classifier`.

    loss = CE(class of the source's images) + CE(domain of R(hidden))

Each domain is scaled by its own mean and deviation first. Labels are the source's alone. With one
domain what is left is `mlp`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from medfocus_pipeline.adaptation.alone import classified, generators
from medfocus_pipeline.adaptation.domain_classifier import (
    Domains,
    DomainSet,
    domain_set,
    pooled,
    scaled_apart,
)
from medfocus_pipeline.adaptation.protocol import Adapted, Task, check
from medfocus_pipeline.adaptation.selection import held_apart, risk
from medfocus_pipeline.config.adaptation import AdversarialConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.heads.many import Minibatch, cross_entropy, in_groups
from medfocus_pipeline.heads.mlp import FittedMlp, Network, train_networks
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import IntArray

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Adversarial:
    """DANN, or CDAN; see the module."""

    config: AdversarialConfig

    def adapt(self, task: Task, subsets: Sequence[IntArray], seeds: Sequence[int]) -> Adapted:
        """One network a seed, side by side, after the trials that choose its weight."""
        check(task)
        with single_threaded("torch"):
            tasks = [scaled_apart(task, rows) for rows in subsets]
            weights = self.choose(tasks, subsets, seeds)
            sets = [
                domain_set(one, pooled(one), rows, weight=weight, seed=seed)
                for one, rows, weight, seed in zip(tasks, subsets, weights, seeds, strict=True)
            ]
            fitted = self.fit(sets, generators(seeds))
        adapted = classified(fitted, tasks, subsets, seen=fitted[0].hidden)
        return replace(adapted, choices=tuple({"weight": weight} for weight in weights))

    def choose(
        self, tasks: Sequence[Task], subsets: Sequence[IntArray], seeds: Sequence[int]
    ) -> list[float]:
        """The weight of each seed: that of the trial with the least risk, the smaller of equals.

        All trials of a seed start from the same weights and see the same images. Where too few
        images can be held out, it is the middle one without a trial.
        """
        grid = sorted(set(self.config.weights))
        chosen = [grid[len(grid) // 2]] * len(seeds)
        if len(grid) == 1:
            return chosen
        splits = {}
        for place, (task, rows, seed) in enumerate(zip(tasks, subsets, seeds, strict=True)):
            rng = generator("held out", seed)
            split = held_apart(task, rows, parts=self.config.folds, rng=rng)
            if split is not None:
                splits[place] = split
        shown = {
            place: domain_set(
                tasks[place], pooled(tasks[place]), split[0], weight=0, seed=seeds[place]
            )
            for place, split in splits.items()
        }
        trials = [(place, weight) for place in splits for weight in grid]
        fitted = self.fit(
            [
                replace(shown[place], weight=weight, draws=generator("domains", seeds[place]))
                for place, weight in trials
            ],
            [generator("trial", seeds[place]) for place, _ in trials],
        )
        least = [math.inf] * len(seeds)
        for (place, weight), one in zip(trials, fitted, strict=True):
            rng = generator("risk", seeds[place])
            judged = risk(
                one, tasks[place], splits[place], criterion=self.config.criterion, rng=rng
            )
            if judged < least[place]:
                least[place], chosen[place] = judged, weight
        return chosen

    def fit(
        self, sets: Sequence[DomainSet], rngs: Sequence[np.random.Generator]
    ) -> list[FittedMlp]:
        """One network a set."""
        return in_groups(sets, rngs, train=self.train, batch_size=self.config.network.batch_size)

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
