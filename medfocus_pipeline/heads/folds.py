"""Folds for choices inside a training subset: what belongs together is held out together."""

from collections.abc import Iterator

import numpy as np

from medfocus_pipeline.types import IntArray


def smallest_class(labels: IntArray, groups: IntArray | None = None) -> int:
    """Images of the class that has fewest, of those that have any; with groups, its groups.

    Args:
        labels: ``(n,) int64``.
        groups: ``(n,) int64``, see `TrainingSet`.
    """
    if groups is not None:
        labels = np.unique(np.stack([labels, groups]), axis=1)[0]
    return int(np.unique_counts(labels).counts.min())


def folds(
    labels: IntArray, *, n_folds: int, rng: np.random.Generator, groups: IntArray | None = None
) -> Iterator[tuple[IntArray, IntArray]]:
    """Positions of the images (training, held out) of each stratified fold.

    No group is on both sides of a fold. A fold whose training side would lack a class, which
    large groups can make, is left out, so that there may be fewer than `n_folds`, or none.

    Args:
        labels: ``(n,) int64``.
        n_folds: at most `smallest_class`.
        rng: draws the folds.
        groups: ``(n,) int64``, see `TrainingSet`; None is each image for itself.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    seed = int(rng.integers(2**32))
    rows = np.zeros(len(labels))
    if groups is None or len(np.unique(groups)) == len(groups):
        alone = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
        yield from alone.split(rows, labels)
        return
    # By first appearance: what the numbers of the groups are must not matter.
    _, first, codes = np.unique(groups, return_index=True, return_inverse=True)
    renumbered = np.argsort(np.argsort(first))[codes]
    together = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    present = len(np.unique(labels))
    for rest, held_out in together.split(rows, labels, renumbered):
        if len(held_out) and len(np.unique(labels[rest])) == present:
            yield rest, held_out


def each_alone(
    labels: IntArray, groups: IntArray | None = None
) -> Iterator[tuple[IntArray, IntArray]]:
    """Leave one out: every image, or every group of them, is held out once."""
    units = np.arange(len(labels)) if groups is None else groups
    for unit in np.unique(units):
        yield np.flatnonzero(units != unit), np.flatnonzero(units == unit)
