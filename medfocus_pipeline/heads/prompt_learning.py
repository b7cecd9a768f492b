"""What the heads that learn prompts share: class names, image features, and the authors' SGD.

Runs that train side by side (`heads.many`) are one batch through the text tower.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np

from medfocus_pipeline.config import ClipAdapterConfig, CoOpConfig
from medfocus_pipeline.config.heads import CoOpDescentConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.encoders.prompt_tower import PromptSource
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.common import check
from medfocus_pipeline.heads.many import cross_entropy, in_groups, minibatches, steps_per_epoch
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.schedule import cosine
from medfocus_pipeline.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    Parameters: TypeAlias = dict[str, Tensor]

Fitted = TypeVar("Fitted")


TINY = 1e-12
"""Keeps the length of an all-zero feature from dividing by zero."""

_ARTICLES = ("a ", "an ", "the ")


def prompt_source(trains: Sequence[TrainingSet], *, head: str) -> PromptSource:
    """The text tower of training sets that a head can learn prompts on.

    Raises:
        DataError: there is none, or a set is unfit for any head or of other classes or another
            encoder than the tower.
    """
    source = trains[0].prompts
    if source is None:
        raise DataError(
            f"The head {head} needs a dual encoder: it learns what the text tower of a CLIP "
            "reads, and this encoder has no such tower. Use --encoder clip or lite-clip."
        )
    dim, classes = source.open().dim, len(source.phrases)
    for train in trains:
        check(train)
        if train.prompts != source or train.n_classes != classes:
            raise DataError(
                f"Training sets that {head} trains side by side are expected to be of {classes} "
                "classes and one encoder, got others. Fit them one by one."
            )
        if train.features.shape[2] % dim:
            raise DataError(
                f"Image features have {train.features.shape[2]} dimensions and class texts "
                f"{dim}, expected a multiple: both come from one dual encoder. Embed both with "
                "the same one."
            )
    return source


def side_by_side(
    trains: Sequence[TrainingSet],
    rngs: Sequence[np.random.Generator],
    *,
    head: str,
    train: "Callable[..., Sequence[Fitted]]",
) -> "list[Fitted]":
    """Trains sets together where they are as large, on `image_vectors`.

    Args:
        head: who asks, for the message.
        train: sets, generators and the keyword `source`, the text tower -> one result a set.

    Raises:
        DataError: as `prompt_source`.
    """
    source = prompt_source(trains, head=head)
    with single_threaded("torch"):
        dim = source.open().dim
        return in_groups(
            [replace(one, features=image_vectors(one.features, dim=dim)) for one in trains],
            rngs,
            train=partial(train, source=source),
        )


def class_names(phrases: Sequence[str]) -> list[str]:
    """What stands behind the context: the phrase without its article, and a full stop.

    The authors put bare class names behind a context that may end in an article.
    """
    bare = []
    for phrase in phrases:
        article = next(filter(phrase.lower().startswith, _ARTICLES), "")
        bare.append(f"{phrase[len(article) :]}.")
    return bare


def image_vectors(features: FloatArray, *, dim: int) -> FloatArray:
    """Vectors whose dot product with a unit class text is the cosine of image and class.

    Where m focus modes are joined, a class's vector is its text m times (`zeroshot.tiled`), so
    that the cosine is the sum of the parts, over their length and the square root of m, with
    the text.

    Args:
        features: ``(n, v, m * d) float32``.
        dim: d.

    Returns:
        ``(n, v, d) float32``, of length 1 where m = 1.
    """
    n, views, joined = features.shape
    length = np.linalg.norm(features, axis=2, keepdims=True) * math.sqrt(joined // dim)
    parts = features.reshape(n, views, joined // dim, dim).sum(axis=2)
    vectors: FloatArray = parts / np.maximum(length, np.float32(TINY))
    return vectors


def learning_rate(epoch: int, *, epochs: int, config: CoOpDescentConfig) -> float:
    """Constant in the first epoch, then along a cosine that counts from the second.

    The schedule of the authors' code: lr (1 + cos(pi (epoch - 1) / epochs)) / 2.
    """
    if epoch == 0:
        return config.warmup_rate
    return config.learning_rate * cosine(epoch - 1, epochs)


def epochs_of(train: TrainingSet, *, config: CoOpConfig | ClipAdapterConfig) -> int:
    """Epochs for the nearest of 1, 2 to 4, and 8 and more shots; the fewer if two are as near."""
    shots = len(train.labels) / train.n_classes
    few, some, many = config.epochs
    if shots <= 1.5:
        return few
    return some if shots <= 6 else many


def descend(
    start: "Parameters",
    logits: "Callable[[Parameters, Tensor], Tensor]",
    trains: Sequence[TrainingSet],
    rngs: Sequence[np.random.Generator],
    *,
    epochs: int,
    config: CoOpDescentConfig,
) -> "Parameters":
    """SGD with momentum on each run's cross-entropy.

    Args:
        start: parameters of all R runs, ``(R, ...) float32`` each.
        logits: parameters and image vectors ``(R, b, d)`` -> ``(R, b, K)``.
        trains: R sets of as many images, their features as `image_vectors` gives them.

    Returns:
        The trained parameters, detached.

    Raises:
        DataError: training diverged.
    """
    import torch

    learned = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimiser = torch.optim.SGD(
        list(learned.values()),
        lr=config.warmup_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=True,
    )
    steps = steps_per_epoch(trains[0], batch_size=config.batch_size)
    batches = minibatches(trains, rngs, epochs=epochs, batch_size=config.batch_size)
    for number, batch in enumerate(batches):
        rate = learning_rate(number // steps, epochs=epochs, config=config)
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        torch.autograd.backward(cross_entropy(logits(learned, batch.x), batch))
        optimiser.step()
    if not all(bool(value.isfinite().all()) for value in learned.values()):
        raise DataError(
            f"The training of {config.name} diverged: what it learned has values that are "
            f"not finite. Use a learning_rate below {config.learning_rate:g}."
        )
    return {name: value.detach() for name, value in learned.items()}
