"""The domain classifier of DANN and CDAN: what it sees, and the reversal before it.

    loss = CE(domain of R(hidden)),  R(x) = x,  dR/dx = -weight (2 / (1 + exp(-10 p)) - 1) I

with p in [0, 1], the progress of the training (Ganin et al. 2016, sections 4.2 and 5.2). CDAN (Long
et al. 2018) classifies the domain of the outer product of the hidden features with the
probabilities of the classes; no gradient goes through the probabilities, as in its authors' code.

Each step shows the domain classifier as many images of one domain as of any other. Without a second
domain its loss is 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from medfocus_pipeline.adaptation.protocol import Task
from medfocus_pipeline.config.adaptation import AdversarialConfig
from medfocus_pipeline.heads.many import all_steps, cross_entropy, gather
from medfocus_pipeline.heads.mlp import Network, Scaling
from medfocus_pipeline.heads.protocol import TrainingSet
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


def scaled_apart(task: Task, rows: IntArray) -> Task:
    """The same task, each domain less its own mean and divided by its own deviation.

    What two scanners differ in first, exposure and contrast, moves all features of one of them:
    networks keep such statistics a domain (Li et al. 2017, "Revisiting batch normalization for
    practical domain adaptation"). No label is read.

    Args:
        rows: of the source, which its statistics are of.
    """
    source = task.source.copy()
    for domain in np.unique(task.domains):
        own = task.domains == domain
        known = rows[own[rows]]
        if known.size:
            source[own] = Scaling.of(task.source[known]).apply(source[own])
    # Without an image of the target, what is tested is taken for the source's.
    scaling = Scaling.of(task.target if len(task.target) else task.source[rows])
    return replace(
        task, source=source, target=scaling.apply(task.target), test=scaling.apply(task.test)
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
    """What a run trains on: some rows of the source, and all images of the target.

    The domain classifier has draws of its own, so that none of them is missing elsewhere.
    """
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
        draws=generator("domains", seed),
    )


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
    def initial(cls, sets: Sequence[DomainSet], config: AdversarialConfig) -> "Domains":
        """Before training."""
        import torch

        conditional = config.name == "cdan"
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
