"""Three fully connected layers with ReLU on the image feature.

    x = (f - mean) / deviation
    logits = relu(relu(x W1 + b1) W2 + b2) W3 + b3

The mean is the training images'; the deviation is one number, the root mean square of what
the mean leaves, so that no dimension that is all noise grows.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import MlpConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.heads.common import mean_probabilities, view_rows
from medfocus_pipeline.heads.many import (
    Minibatch,
    all_steps,
    cross_entropy,
    descend,
    drawn,
    in_groups,
    minibatches,
    steps_per_epoch,
)
from medfocus_pipeline.heads.protocol import ManyHead, TrainingSet
from medfocus_pipeline.types import JSON, FloatArray

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-12
"""Keeps features that are all the same from dividing by zero."""


@dataclass(frozen=True, slots=True)
class MlpHead(ManyHead["FittedMlp"]):
    """The layers trained by AdamW along a cosine on cross-entropy; see the module."""

    config: MlpConfig

    def fit_many(
        self, trains: Sequence[TrainingSet], rngs: Sequence[np.random.Generator]
    ) -> list["FittedMlp"]:
        """Train on several subsets side by side."""
        with single_threaded("torch"):
            return in_groups(trains, rngs, train=self.train, batch_size=self.config.batch_size)

    def train(
        self, trains: list[TrainingSet], rngs: list[np.random.Generator]
    ) -> list["FittedMlp"]:
        """Train sets of the same number of steps."""

        def loss(network: Network, batch: Minibatch) -> "Tensor":
            return cross_entropy(network.outputs(network.hidden(batch.x)), batch)

        return train_networks(
            trains, rngs, config=self.config, outputs=trains[0].n_classes, loss=loss
        )


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

    def apply(self, features: FloatArray) -> FloatArray:
        """Features ``(..., d) float32`` in this scale, the same shape and type."""
        scaled: FloatArray = (features - self.mean) / np.float32(self.deviation)
        return scaled


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


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """B networks in training, side by side.

    Attributes:
        means: ``(B, 1, d)``, taken off the features.
        deviations: ``(B, 1, 1)``, what they are then divided by.
        layers: weights ``(B, inputs, outputs)`` and biases ``(B, 1, outputs)``.
    """

    means: "Tensor"
    deviations: "Tensor"
    layers: Sequence[tuple["Tensor", "Tensor"]]

    @classmethod
    def initial(
        cls,
        scalings: Sequence[Scaling],
        rngs: Sequence[np.random.Generator],
        widths: Sequence[int],
    ) -> "Network":
        """Before training: layers from each of the widths to the next."""
        import torch

        means = torch.from_numpy(np.stack([one.mean for one in scalings]))[:, None]
        deviations = torch.tensor([one.deviation for one in scalings])[:, None, None]
        return cls(means, deviations, [initial(rngs, *shape) for shape in pairwise(widths)])

    @property
    def weights(self) -> list["Tensor"]:
        """What is trained."""
        return [weight for layer in self.layers for weight in layer]

    def hidden(self, x: "Tensor") -> "Tensor":
        """The last hidden layer, ``(B, b, w)``, of features ``(B, b, d)``."""
        x = (x - self.means) / self.deviations
        for weight, bias in self.layers[:-1]:
            x = (x @ weight + bias).relu()
        return x

    def outputs(self, hidden: "Tensor") -> "Tensor":
        """``(B, b, outputs)`` of the last hidden layer: logits, or a projection."""
        weight, bias = self.layers[-1]
        return hidden @ weight + bias


def train_networks(
    trains: Sequence[TrainingSet],
    rngs: Sequence[np.random.Generator],
    *,
    config: MlpConfig,
    outputs: int,
    loss: "Callable[[Network, Minibatch], Tensor]",
    beside: "Sequence[Tensor]" = (),
) -> list["FittedMlp"]:
    """Train sets of the same number of steps by AdamW (Loshchilov and Hutter 2019) along a cosine.

    A set's layers, then its minibatches, are drawn from its own generator.

    Args:
        config: widths of the hidden layers, and how long they train.
        outputs: width of the last layer.
        loss: of a minibatch, summed over runs.
        beside: weights ``(B, ...)`` beside the layers that the loss reads and trains.
    """
    import torch

    scalings = [Scaling.of(train.features) for train in trains]
    widths = (trains[0].features.shape[2], *config.widths, outputs)
    network = Network.initial(scalings, rngs, widths)
    optimiser = torch.optim.AdamW(
        [*network.weights, *beside],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        fused=True,
    )
    steps, size = all_steps(trains[0], config=config), config.batch_size
    epochs = steps // steps_per_epoch(trains[0], batch_size=size)
    batches = minibatches(trains, rngs, epochs=epochs, batch_size=size)
    descend(optimiser, batches, lambda batch: loss(network, batch), steps=steps)
    learned = [(weight.detach().numpy(), bias.detach().numpy()) for weight, bias in network.layers]
    return [
        FittedMlp(scaling, [(weight[run].copy(), bias[run, 0].copy()) for weight, bias in learned])
        for run, scaling in enumerate(scalings)
    ]


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

    def hidden(self, rows: FloatArray) -> FloatArray:
        """The last hidden layer, ``(m, w) float32``, of ``(m, d)`` features."""
        x: FloatArray = self.scaling.apply(rows)
        with single_threaded():
            for weight, bias in self.layers[:-1]:
                x = np.maximum(x @ weight + bias, 0)
        return x

    def outputs(self, rows: FloatArray) -> FloatArray:
        """``(m, outputs) float32`` of ``(m, d)`` features: logits, or a projection."""
        weight, bias = self.layers[-1]
        hidden = self.hidden(rows)
        with single_threaded():
            projected: FloatArray = hidden @ weight + bias
        return projected

    def predict_proba(self, features: FloatArray) -> NDArray[np.float64]:
        """``(m, K) float64``, mean over the views."""
        return mean_probabilities(self.outputs(view_rows(features)), views=features.shape[1])
