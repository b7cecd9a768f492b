"""OC-NN: a network with one hidden layer, trained by the one-class SVM's objective.

Chalapathy, Menon and Chawla 2018, "Anomaly Detection using One-Class Neural Networks", equation
4, g the sigmoid, V and w the weights of hidden and output layer:

    1/2 |w|^2 + 1/2 |V|^2 + 1/nu 1/n sum_i max(0, r - y(x_i)) - r       y(x) = <w, g(V x)>

    score(x) = y(x) - r

It is lowered by turns: V and w by gradient descent, then r, which is best as the nu-quantile of
the scores y (their theorem 1).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import OcNnConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.gate.networks import descend, first_weights, inputs
from medfocus_pipeline.gate.protocol import check
from medfocus_pipeline.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class OcNnMethod:
    """The network trained by Adam; see the module."""

    config: OcNnConfig

    @single_threaded("torch")
    def fit(self, features: FloatArray, rng: np.random.Generator) -> "FittedOcNn":
        """Train on ``(n, d)`` features."""
        import torch

        check(features)
        config, x = self.config, torch.from_numpy(inputs(features))
        hidden = first_weights(rng, x.shape[1], config.width)
        last = first_weights(rng, config.width, 1)
        r = torch.zeros(())

        def scores(batch: "Tensor") -> "Tensor":
            return (torch.sigmoid(batch @ hidden) @ last)[:, 0]

        def loss(batch: "Tensor") -> "Tensor":
            below = (r - scores(batch)).clamp(min=0).mean() / config.nu
            return (last.square().sum() + hidden.square().sum()) / 2 + below - r

        def renew(_: int) -> None:
            r.copy_(scores(x).quantile(config.nu))

        objective = descend([hidden, last], x, loss, rng, config=config, renew=renew)
        trained = (hidden.detach().numpy(), last.detach().numpy()[:, 0])
        return FittedOcNn(*trained, float(r), objective)


@dataclass(frozen=True, slots=True, eq=False)
class FittedOcNn:
    """Two layers and an offset.

    Attributes:
        hidden: V, ``(d, width) float32``.
        last: w, ``(width,) float32``.
        offset: r.
        objective: on all training images, before the training and after each epoch.
    """

    hidden: FloatArray
    last: FloatArray
    offset: float
    objective: tuple[float, ...]

    def score(self, features: FloatArray) -> NDArray[np.float64]:
        """The y - r of ``(m, d)`` features, ``(m,)``."""
        from scipy.special import expit

        with single_threaded():
            outputs = expit(inputs(features) @ self.hidden) @ self.last
        scores: NDArray[np.float64] = outputs.astype(np.float64) - self.offset
        return scores
