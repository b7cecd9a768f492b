"""Training of the fusion, many side by side: on all images of a run or a fold, for any lambda.

The paper's loss is L = lambda L_c + (1 - lambda) L_e (MedFocusCLIP, section III-B).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from medfocus_pipeline.config import FusionConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.fusion_mix import Weights, fuse_inside, initial, keys, queries
from medfocus_pipeline.heads.fusion_space import Space
from medfocus_pipeline.types import IntArray

if TYPE_CHECKING:
    from torch import Generator, Tensor

SIDE_BY_SIDE = 32
"""Trainings at a time: more would not fit into a core's cache, fewer would wait for Python."""

VECTOR = 32
"""Numbers that a core may handle at once. The last few of a tensor are computed one by one, and
rounded otherwise; so each training's part of what is learned fills whole vectors, lest its
bytes depend on how many trainings stand beside it. With `width` a multiple of this they do not."""


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """One training of F and C.

    Attributes:
        space: of the run; trainings of one run share it.
        rows: ``(r,) int64``, the rows of the space to train on.
        mix: lambda.
        seed: of the first weights and of the order of the rows: trainings of one run that
            differ by lambda alone differ by nothing else.
    """

    space: Space
    rows: IntArray
    mix: float
    seed: int


def train_fusions(trainings: Sequence[Training], *, config: FusionConfig) -> Iterator[Weights]:
    """Weights of each training, in their order; spaces have equal w and K.

    Batches have `config.batch_size` rows whatever the number there is: what one training
    computes does not depend on those beside it.

    Raises:
        DataError: a training diverged.
    """
    for steps, group in groupby(trainings, key=lambda one: n_steps(len(one.rows), config)):
        alike = list(group)
        for first in range(0, len(alike), SIDE_BY_SIDE):
            weights = train_alike(alike[first : first + SIDE_BY_SIDE], steps=steps, config=config)
            yield from weights


def n_steps(rows: int, config: FusionConfig) -> int:
    """Steps of the optimiser for a number of rows."""
    return min(config.epochs * math.ceil(rows / config.batch_size), config.max_steps)


def train_alike(
    trainings: Sequence[Training], *, steps: int, config: FusionConfig
) -> list[Weights]:
    """AdamW for so many steps, learning rate falling along a cosine, on all trainings at once."""
    import torch

    starts, orders = zip(
        *(prepare(one, steps=steps, config=config) for one in trainings), strict=True
    )
    weights = {name: torch.stack([start[name] for start in starts]) for name in starts[0]}
    fixed = {"origin"} if trainings[0].space.texts is None else {"origin", "texts"}
    learned = {
        name: padded(weights[name]).requires_grad_() for name in sorted(weights.keys() - fixed)
    }
    optimiser = torch.optim.AdamW(
        learned.values(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=steps)
    mix = torch.tensor([one.mix for one in trainings])
    pool = Pool.of([one.space for one in trainings])
    places = torch.stack(orders) + pool.offsets[:, None, None]
    for step in range(steps):
        batch = places[:, step]
        weights |= {name: unpadded(flat, weights[name]) for name, flat in learned.items()}
        optimiser.zero_grad()
        losses = loss(
            weights,
            pool.x[batch],
            pool.length[batch],
            pool.labels[batch],
            mix=mix,
            config=config,
        )
        torch.autograd.backward(losses.sum())
        optimiser.step()
        schedule.step()
    if not all(flat.isfinite().all() for flat in learned.values()):
        raise DataError(
            "The fusion's training diverged: M has values that are not finite. Use a "
            f"learning_rate below {config.learning_rate:g}."
        )
    return [
        {name: tensor[index].detach().clone() for name, tensor in weights.items()}
        for index in range(len(trainings))
    ]


def loss(
    weights: Weights,
    x: "Tensor",
    length: "Tensor",
    labels: "Tensor",
    *,
    mix: "Tensor",
    config: FusionConfig,
) -> "Tensor":
    """L of each of several trainings, ``(...)``.

    L_e is the cross-entropy of C(M); L_c contrasts M with the class texts. Both read M in the
    space of B.

    Args:
        weights: of F and C.
        x: ``(..., b, w)``, I B.
        length: ``(..., b)``, |I|.
        labels: ``(..., b) int64``.
        mix: ``(...)``, lambda.
        config: variant of F, temperature of its attention and of L_c.
    """
    key = keys(weights)
    fused = fuse_inside(weights, key, x, length, config)
    contrastive = contrast(queries(weights, fused) @ key.mT / config.temperature, labels)
    entropy = cross_entropy(fused @ weights["head"] + weights["bias"], labels)
    return mix * contrastive + (1 - mix) * entropy


def cross_entropy(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """Mean over the batch, ``(...)``, for logits ``(..., b, K)`` and labels ``(..., b)``."""
    true = logits.log_softmax(dim=-1).gather(-1, labels[..., None])
    return -true[..., 0].mean(dim=-1)


def contrast(similarity: "Tensor", labels: "Tensor") -> "Tensor":
    """Symmetric contrastive loss of images and class texts, several images to a text, ``(...)``.

    The mean of CLIP's two directions (Radford et al. 2021, figure 3): image to text, a softmax
    over the K texts; text to image, a softmax over the batch, averaged over the images of the
    class inside the sum (Khosla et al. 2020, "Supervised Contrastive Learning", equation 2),
    then over the classes that the batch has.

    Args:
        similarity: ``(..., b, K)``, divided by the temperature.
        labels: ``(..., b) int64``.
    """
    from torch.nn.functional import one_hot

    positives = one_hot(labels, similarity.shape[-1]).to(similarity.dtype)
    counts = positives.sum(dim=-2)
    per_text = -(positives * similarity.log_softmax(dim=-2)).sum(dim=-2) / counts.clamp_min(1)
    to_images = per_text.sum(dim=-1) / (counts > 0).sum(dim=-1)
    return (cross_entropy(similarity, labels) + to_images) / 2


def padded(tensor: "Tensor") -> "Tensor":
    """``(B, ...)`` as ``(B, p)``, p the next multiple of `VECTOR`, filled up with zeros."""
    from torch.nn.functional import pad

    flat = tensor.flatten(1)
    return pad(flat, (0, -flat.shape[1] % VECTOR))


def unpadded(flat: "Tensor", like: "Tensor") -> "Tensor":
    """``(B, p)`` in the shape that it had before `padded`."""
    size = math.prod(like.shape[1:])
    return (flat if flat.shape[1] == size else flat[:, :size]).view(like.shape)


def prepare(training: Training, *, steps: int, config: FusionConfig) -> tuple[Weights, "Tensor"]:
    """First weights, and the rows of each batch, ``(steps, b) int64``."""
    import torch

    generator = torch.Generator().manual_seed(training.seed)
    texts, origin = training.space.start(training.rows)
    weights = initial(texts, origin, variant=config.variant, generator=generator)
    return weights, torch.from_numpy(training.rows)[
        order(len(training.rows), shape=(steps, config.batch_size), generator=generator)
    ]


def order(rows: int, *, shape: tuple[int, int], generator: "Generator") -> "Tensor":
    """Places in 0 .. rows - 1, one permutation of all of them after another."""
    import torch

    passes = [
        torch.randperm(rows, generator=generator) for _ in range(math.ceil(math.prod(shape) / rows))
    ]
    return torch.cat(passes)[: math.prod(shape)].view(shape)


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The rows of several spaces, each space once.

    Attributes:
        x, length, labels: of all rows, see `Space`.
        offsets: ``(trainings,) int64``, where each training's space begins.
    """

    x: "Tensor"
    length: "Tensor"
    labels: "Tensor"
    offsets: "Tensor"

    @classmethod
    def of(cls, spaces: Sequence[Space]) -> "Pool":
        """The pool of each training's space."""
        import torch

        distinct = list({id(space): space for space in spaces}.values())
        begins = np.cumsum([0, *(len(space.x) for space in distinct)])
        begin = {id(space): int(place) for space, place in zip(distinct, begins, strict=False)}
        return cls(
            torch.cat([space.x for space in distinct]),
            torch.cat([space.length for space in distinct]),
            torch.cat([space.labels for space in distinct]),
            torch.tensor([begin[id(space)] for space in spaces]),
        )
