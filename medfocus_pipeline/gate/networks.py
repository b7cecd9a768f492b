"""What Deep SVDD and OC-NN share: inputs of one scale, first weights, and descent by Adam."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medfocus_pipeline.config import DeepSvddConfig, OcNnConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.types import FloatArray
from medfocus_pipeline.vectors import normalise

if TYPE_CHECKING:
    from torch import Tensor


def inputs(features: FloatArray) -> FloatArray:
    """``(n, d)`` rows brought to length sqrt(d), so that an entry has a mean square of 1.

    They are not centred: a layer without a bias and with a ReLU is homogeneous, so that of
    centred rows those nearest to the mean would have outputs near 0, far from any centre.
    """
    return normalise(features) * np.float32(math.sqrt(features.shape[1]))


def first_weights(rng: np.random.Generator, fan_in: int, fan_out: int) -> "Tensor":
    """``(fan_in, fan_out) float32``, uniform with the variance 1 / fan_in, to be trained."""
    import torch

    drawn = rng.random((fan_in, fan_out), dtype=np.float32) * 2 - 1
    return torch.from_numpy(drawn * np.float32(math.sqrt(3 / fan_in))).requires_grad_()


def descend(
    weights: Sequence["Tensor"],
    x: "Tensor",
    loss: "Callable[[Tensor], Tensor]",
    rng: np.random.Generator,
    *,
    config: DeepSvddConfig | OcNnConfig,
    renew: Callable[[int], None],
) -> tuple[float, ...]:
    """Adam (Kingma and Ba 2015) over minibatches of all rows, each epoch in a new order.

    Args:
        weights: to be trained.
        x: ``(n, d)``.
        loss: of a minibatch.
        rng: draws the orders.
        config: epochs, batch size and learning rate of the descent.
        renew: called with the number of epochs that are done, the first time with 0.

    Returns:
        The loss of all rows, before the first epoch and after each.

    Raises:
        DataError: a weight is not finite in the end.
    """
    import torch

    def judged(done: int) -> float:
        with torch.no_grad():
            renew(done)
            return float(loss(x))

    optimiser = torch.optim.Adam(weights, lr=config.learning_rate)
    parts = math.ceil(len(x) / config.batch_size)
    objective = [judged(0)]
    for epoch in range(config.epochs):
        for rows in np.array_split(rng.permutation(len(x)), parts):
            optimiser.zero_grad()
            torch.autograd.backward(loss(x[torch.from_numpy(rows)]))
            optimiser.step()
        objective.append(judged(epoch + 1))
    if not all(bool(weight.isfinite().all()) for weight in weights):
        raise DataError(
            "The training of the gate diverged: it has weights that are not finite. Use a "
            f"learning_rate below {config.learning_rate:g}."
        )
    return tuple(objective)
