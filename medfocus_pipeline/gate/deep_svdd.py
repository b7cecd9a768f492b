"""Deep SVDD: a network without biases that brings the training images close to one point.

Ruff et al. 2018, "Deep One-Class Classification" (ICML), equations 4 and 3, phi the network, W
its weights, c the point:

    one_class:  1/n sum_i |phi(x_i) - c|^2 + lambda/2 |W|^2
    soft:       R^2 + 1/(nu n) sum_i max(0, |phi(x_i) - c|^2 - R^2) + lambda/2 |W|^2

    score(x) = R^2 - |phi(x) - c|^2           R is 0 for one_class

c is the mean of the first outputs, no coordinate nearer to 0 than `LEAST_CENTRE`: with c = 0, all
weights 0 would be best (their proposition 2), and with biases any c could be met by constants
(proposition 3). R^2 is, after the warm-up and anew each epoch, the (1 - nu)-quantile of the
distances, which is where the objective is least in R. Layers are joined by a leaky ReLU, which is
not bounded (proposition 4). The authors begin from an autoencoder on pixels; embeddings are
features already, and the weights are drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import DeepSvddConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.gate.networks import descend, first_weights, inputs
from medfocus_pipeline.gate.protocol import check
from medfocus_pipeline.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

LEAST_CENTRE = 0.1
"""Of a coordinate of c, from 0; the authors' code has it."""

SLOPE = 0.1
"""Of the leaky ReLU below 0."""


@dataclass(frozen=True, slots=True)
class DeepSvddMethod:
    """The network trained by Adam; see the module."""

    config: DeepSvddConfig

    @single_threaded("torch")
    def fit(self, features: FloatArray, rng: np.random.Generator) -> "FittedDeepSvdd":
        """Train on ``(n, d)`` features."""
        import torch

        check(features)
        config, x = self.config, torch.from_numpy(inputs(features))
        layers = [first_weights(rng, *shape) for shape in pairwise((x.shape[1], *config.widths))]
        with torch.no_grad():
            centre = away_from_zero(outputs(layers, x).mean(dim=0))
        radius = torch.zeros(())

        def loss(batch: "Tensor") -> "Tensor":
            far = (outputs(layers, batch) - centre).square().sum(dim=1)
            if config.boundary == "soft":
                outside = (far - radius).clamp(min=0).mean()
                far_all = radius + outside / config.nu
            else:
                far_all = far.mean()
            return far_all + config.weight_decay / 2 * sum(w.square().sum() for w in layers)

        def renew(done: int) -> None:
            if config.boundary == "soft" and done >= max(1, config.warm_up):
                far = (outputs(layers, x) - centre).square().sum(dim=1)
                radius.copy_(far.quantile(1 - config.nu))

        objective = descend(layers, x, loss, rng, config=config, renew=renew)
        trained = tuple(layer.detach().numpy() for layer in layers)
        return FittedDeepSvdd(trained, centre.numpy(), float(radius), objective)


@dataclass(frozen=True, slots=True, eq=False)
class FittedDeepSvdd:
    """A network and a point.

    Attributes:
        layers: weights ``(d_in, d_out) float32`` of each.
        centre: c, ``(d_out,) float32``.
        radius: R^2; 0 for `one_class`.
        objective: on all training images, before the training and after each epoch.
    """

    layers: tuple[FloatArray, ...]
    centre: FloatArray
    radius: float
    objective: tuple[float, ...]

    def score(self, features: FloatArray) -> NDArray[np.float64]:
        """R^2 - |phi(x) - c|^2, ``(m,)``."""
        *hidden, last = self.layers
        x = inputs(features)
        with single_threaded():
            for layer in hidden:
                x = x @ layer
                x = np.maximum(x, np.float32(SLOPE) * x)
            x = x @ last
        far = np.square(x.astype(np.float64) - self.centre).sum(axis=1)
        scores: NDArray[np.float64] = self.radius - far
        return scores


def outputs(layers: Sequence["Tensor"], x: "Tensor") -> "Tensor":
    """phi, ``(n, d_out)`` of ``(n, d)``."""
    from torch.nn import functional

    for layer in layers[:-1]:
        x = functional.leaky_relu(x @ layer, SLOPE)
    return x @ layers[-1]


def away_from_zero(centre: "Tensor") -> "Tensor":
    """No coordinate nearer to 0 than `LEAST_CENTRE`, the sign kept."""
    import torch

    sign = torch.where(centre < 0, -1.0, 1.0)
    return sign * centre.abs().clamp(min=LEAST_CENTRE)
