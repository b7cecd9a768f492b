"""Three fully connected layers with ReLU on the image feature.

    x = (f - mean) / deviation
    logits = relu(relu(x W1 + b1) W2 + b2) W3 + b3

The mean is the training images'; the deviation is one number, the root mean square of what
the mean leaves, so that no dimension that is all noise grows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import MlpConfig
from medfocus_pipeline.heads.linear import check
from medfocus_pipeline.heads.many import (
    Minibatch,
    adamw,
    cross_entropy,
    drawn,
    in_groups,
    steps_per_epoch,
    train_epochs,
)
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.threads import single_threaded
from medfocus_pipeline.heads.views import mean_probabilities, view_rows
from medfocus_pipeline.types import JSON, FloatArray

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-12
"""Keeps features that are all the same from dividing by zero."""


@dataclass(frozen=True, slots=True)
class MlpHead:
    """The layers trained by AdamW along a cosine on cross-entropy; see the module."""

    config: MlpConfig

    def fit(self, train: TrainingSet, rng: np.random.Generator) -> "FittedMlp":
        """Train on one subset."""
        return self.fit_many([train], [rng])[0]

    def fit_many(
        self, trains: Sequence[TrainingSet], rngs: Sequence[np.random.Generator]
    ) -> list["FittedMlp"]:
        """Train on several subsets side by side."""
        for train in trains:
            check(train)
        batch_size = self.config.batch_size
        with single_threaded("torch"):
            return in_groups(
                trains,
                rngs,
                alike=lambda one: steps_per_epoch(one, batch_size=batch_size),
                train=self.train,
            )

    def train(
        self, trains: list[TrainingSet], rngs: list[np.random.Generator]
    ) -> list["FittedMlp"]:
        """Train sets of the same number of steps."""
        import torch

        config = self.config
        scalings = [Scaling.of(train.features) for train in trains]
        means = torch.from_numpy(np.stack([one.mean for one in scalings]))[:, None]
        deviations = torch.tensor([one.deviation for one in scalings])[:, None, None]
        widths = (trains[0].features.shape[2], *config.widths, trains[0].n_classes)
        layers = [initial(rngs, *shape) for shape in pairwise(widths)]

        def loss(batch: Minibatch) -> "Tensor":
            return cross_entropy(logits(layers, (batch.x - means) / deviations), batch)

        optimiser = adamw(
            [weight for layer in layers for weight in layer],
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        train_epochs(trains, rngs, optimiser, loss, config=config)
        learned = [(weight.detach().numpy(), bias.detach().numpy()) for weight, bias in layers]
        return [
            FittedMlp(
                scaling, [(weight[run].copy(), bias[run, 0].copy()) for weight, bias in learned]
            )
            for run, scaling in enumerate(scalings)
        ]


@dataclass(frozen=True, slots=True)
class Scaling:
    """What is taken off the features, and what they are divided by.

    Attributes:
        mean: ``(d,) float32``.
        deviation: > 0.
    """

    mean: FloatArray
    deviation: float

    @classmethod
    def of(cls, features: FloatArray) -> "Scaling":
        """Of ``(n, v, d) float32`` features."""
        mean: FloatArray = features.mean(axis=(0, 1))
        square = float(np.square(features - mean, dtype=np.float32).mean(dtype=np.float64))
        return cls(mean, max(math.sqrt(square), TINY))


def initial(
    rngs: Sequence[np.random.Generator], inputs: int, outputs: int
) -> tuple["Tensor", "Tensor"]:
    """Weights ``(B, inputs, outputs)`` and biases ``(B, 1, outputs)`` before training.

    Uniform with the deviation sqrt(2 / inputs), biases 0 (He et al. 2015, "Delving Deep into
    Rectifiers").
    """
    import torch

    weight = drawn(rngs, inputs, outputs) * math.sqrt(6 / inputs)
    bias = torch.zeros(len(rngs), 1, outputs)
    return weight.requires_grad_(), bias.requires_grad_()


def logits(layers: Sequence[tuple["Tensor", "Tensor"]], x: "Tensor") -> "Tensor":
    """``(B, b, K)`` for ``(B, b, d)`` scaled features."""
    *hidden, last = layers
    for weight, bias in hidden:
        x = (x @ weight + bias).relu()
    return x @ last[0] + last[1]


@dataclass(frozen=True, slots=True)
class FittedMlp:
    """Layers after training.

    Attributes:
        scaling: of the features.
        layers: ``(inputs, outputs)`` weights and ``(outputs,)`` biases, float32.
        chosen: empty.
    """

    scaling: Scaling
    layers: list[tuple[FloatArray, FloatArray]]
    chosen: JSON = field(default_factory=dict)

    def predict_proba(self, features: FloatArray) -> NDArray[np.float64]:
        """``(m, K) float64``, mean over the views."""
        *hidden, (weight, bias) = self.layers
        x: FloatArray = (view_rows(features) - self.scaling.mean) / np.float32(
            self.scaling.deviation
        )
        with single_threaded():
            for each, shift in hidden:
                x = np.maximum(x @ each + shift, 0)
            x = x @ weight + bias
        return mean_probabilities(x, views=features.shape[1])
