"""Contrastive heads: a projection in which images of one class are near, then a linear classifier.

z = G(f), of unit length, is what the layers of the head `mlp` end in. Pairs of the images in a
minibatch train it (Hadsell, Chopra and LeCun 2006, "Dimensionality reduction by learning an
invariant mapping", equation 4), with D the Euclidean distance of z_i and z_j, and Y = 0 for two
images of one class, 1 for two classes:

    L(i, j) = (1 - Y) 1/2 D^2 + Y 1/2 max(0, m - D)^2

so that the distance gets small within a class and m between two. `supcon` has the supervised
contrastive loss instead (Khosla et al. 2020, "Supervised contrastive learning", equation 2): P(i)
are the others of its class, A(i) all others, and images without a P(i) say nothing

    L(i) = -1 / |P(i)| sum_{p in P(i)} log(exp(z_i z_p / t) / sum_{a in A(i)} exp(z_i z_a / t))

Logistic regression on z classifies. The views of an image are images of their own here, so that
one image of a class has pairs too. C is fixed: held-out labels would not be held out, since z
learned from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import ContrastiveConfig, SupConConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.heads.common import check, view_rows
from medfocus_pipeline.heads.linear import FittedLinear, LinearHead
from medfocus_pipeline.heads.many import Minibatch, in_groups
from medfocus_pipeline.heads.mlp import FittedMlp, Network, train_networks
from medfocus_pipeline.heads.protocol import ManyHead, TrainingSet
from medfocus_pipeline.types import JSON, FloatArray
from medfocus_pipeline.vectors import normalise

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-12
"""Keeps the slope of a distance of 0 finite."""

NEVER = -1e9
"""Logit of what is no pair; an infinity would leave a row without pairs no number."""


@dataclass(frozen=True, slots=True)
class ContrastiveHead(ManyHead["FittedContrastive"]):
    """The projection by one of the two losses, then the classifier; see the module."""

    config: ContrastiveConfig | SupConConfig

    def fit_many(
        self, trains: Sequence[TrainingSet], rngs: Sequence[np.random.Generator]
    ) -> list["FittedContrastive"]:
        """Train on several subsets side by side."""
        for train in trains:
            check(train)
        with single_threaded("torch"):
            networks = in_groups(
                [views_apart(train) for train in trains],
                rngs,
                train=self.train,
                batch_size=self.config.network.batch_size,
            )
        classifier = LinearHead(self.config.classifier)
        return [
            FittedContrastive(
                network,
                classifier.fit(replace(train, features=projected(network, train.features)), rng),
            )
            for network, train, rng in zip(networks, trains, rngs, strict=True)
        ]

    def train(self, trains: list[TrainingSet], rngs: list[np.random.Generator]) -> list[FittedMlp]:
        """Train the projections of sets of the same number of steps."""
        from torch.nn import functional

        config = self.config

        def loss(network: Network, batch: Minibatch) -> "Tensor":
            z = functional.normalize(network.outputs(network.hidden(batch.x)), dim=2)
            if isinstance(config, SupConConfig):
                return supcon_loss(z, batch, temperature=config.temperature)
            return pair_loss(z, batch, margin=config.margin)

        return train_networks(trains, rngs, config=config.network, outputs=config.width, loss=loss)


def views_apart(train: TrainingSet) -> TrainingSet:
    """Each view as an image of its own."""
    views = train.features.shape[1]
    return replace(
        train,
        features=view_rows(train.features)[:, None],
        labels=np.repeat(train.labels, views),
        groups=None,
    )


def projected(network: FittedMlp, features: FloatArray) -> FloatArray:
    """Z of every view, ``(m, v, w) float32``."""
    return normalise(network.outputs(view_rows(features))).reshape(*features.shape[:2], -1)


def pair_loss(z: "Tensor", batch: Minibatch, *, margin: float) -> "Tensor":
    """Mean over the pairs of each run's images ``(B, b, w)``, summed over the runs: a scalar."""
    same, pairs = _pairs(batch)
    lengths = z.square().sum(dim=2)
    squares = (lengths[:, :, None] + lengths[:, None] - 2 * z @ z.mT).clamp(min=0)
    apart = (margin - (squares + TINY).sqrt()).relu().square()
    losses = squares.where(same, apart) / 2
    return (losses * pairs).sum(dim=(1, 2)).div(pairs.sum(dim=(1, 2)).clamp(min=1)).sum()


def supcon_loss(z: "Tensor", batch: Minibatch, *, temperature: float) -> "Tensor":
    """Mean over each run's images that have another of their class, summed over the runs.

    Args:
        z: ``(B, b, w)``, L2-normalised.
    """
    same, pairs = _pairs(batch)
    logits = (z @ z.mT / temperature).masked_fill(~pairs, NEVER)
    logs = logits.log_softmax(dim=2).masked_fill(~(same & pairs), 0)
    count = (same & pairs).sum(dim=2)
    means = -logs.sum(dim=2) / count.clamp(min=1)
    return means.sum(dim=1).div((count > 0).sum(dim=1).clamp(min=1)).sum()


def _pairs(batch: Minibatch) -> "tuple[Tensor, Tensor]":
    """Which rows are of one class, and which are two images, each ``(B, b, b) bool``."""
    import torch

    seen = batch.weights > 0
    same = batch.labels[:, :, None] == batch.labels[:, None]
    itself = torch.eye(seen.shape[1], dtype=torch.bool)
    return same, seen[:, :, None] & seen[:, None] & ~itself


@dataclass(frozen=True, slots=True)
class FittedContrastive:
    """A projection and its classifier after training.

    Attributes:
        network: the layers that end in the projection.
        classifier: on z.
    """

    network: FittedMlp
    classifier: FittedLinear

    @property
    def chosen(self) -> JSON:
        """C, as it was configured."""
        return self.classifier.chosen

    def predict_proba(self, features: FloatArray) -> NDArray[np.float64]:
        """``(m, K) float64``, mean over the views."""
        return self.classifier.predict_proba(projected(self.network, features))
