"""Which images an epoch shows, in which order: a pure function of labels and generator."""

import numpy as np

from medfocus_pipeline.config.tuning import Balance
from medfocus_pipeline.types import FloatArray, IntArray


def epoch_batches(
    labels: IntArray, *, balance: Balance, batch_size: int, rng: np.random.Generator
) -> list[IntArray]:
    """Positions of the images of each batch of an epoch.

    Args:
        labels: ``(n,) int64``.
        balance: `sampler` draws n images, each class alike often; `undersample` draws as many
            of each class as the rarest has; else each image once.
        batch_size: of all batches but the last.
        rng: of the epoch.

    >>> [batch] = epoch_batches(
    ...     np.array([0, 0, 0, 0, 1]), balance="undersample", batch_size=8,
    ...     rng=np.random.default_rng(0),
    ... )
    >>> len(batch), 4 in batch
    (2, True)
    """
    counts = np.bincount(labels)
    if balance == "sampler":
        chances = 1 / counts[labels]
        order = rng.choice(len(labels), len(labels), p=chances / chances.sum())
    elif balance == "undersample":
        least = counts[counts > 0].min()
        members = (np.flatnonzero(labels == one) for one in np.flatnonzero(counts))
        drawn = np.concatenate([rng.choice(rows, least, replace=False) for rows in members])
        order = rng.permutation(drawn)
    else:
        order = rng.permutation(len(labels))
    starts = range(0, len(order), batch_size)
    return [order[start : start + batch_size].astype(np.int64) for start in starts]


def class_weights(labels: IntArray, *, classes: int, balance: Balance) -> FloatArray:
    """``(K,) float32``, what an image of each class weighs in the loss; 1 on average over images.

    Args:
        labels: ``(n,) int64`` of the training images.
        classes: K.
        balance: only `weights` makes them differ.
    """
    if balance != "weights":
        return np.ones(classes, np.float32)
    counts = np.bincount(labels, minlength=classes)
    present = max(1, int((counts > 0).sum()))
    return (len(labels) / (present * np.maximum(counts, 1))).astype(np.float32)
