"""Subsets of the training images, nested and stratified, by fraction and by shots."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np

from medfocus_pipeline.columns import Ids, as_column
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.ids import in_order
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import IntArray

Budget: TypeAlias = tuple[Literal["fraction", "shots"], float]
"""How much of the training images: ("fraction", percent) or ("shots", images a class)."""


def nested_subsets(
    image_ids: Ids,
    labels: IntArray,
    *,
    fractions: Sequence[float],
    shots: Sequence[int],
    seed: int,
) -> dict[Budget, IntArray]:
    """Nested, stratified subsets of the training images.

    Each class is put in one random order, and every subset takes the first ones of it: of a
    fraction, its share of the class to the nearest image, at least one; of shots, that many,
    or the whole class if it has fewer. So of two fractions, or two numbers of shots, the
    smaller subset is part of the larger. A pure function of ids, labels and seed: the order in
    which the images come does not matter, nor do patients.

    Args:
        image_ids: of the n training images.
        labels: ``(n,) int64`` class index.
        fractions: percent of the training images, in (0, 100].
        shots: images a class, 1 or more.
        seed: of the order.

    Returns:
        Budget -> positions in `image_ids`, ascending; fractions first, each in order.

    Raises:
        ConfigError: a fraction or a number of shots is out of range.
    """
    wrong = [f"{f:g} %" for f in fractions if not 0 < f <= 100]
    wrong += [f"{s} shots" for s in shots if s < 1]
    if wrong:
        raise ConfigError(
            f"No subset of {', '.join(wrong)}: expected fractions in (0, 100] and shots of 1 or "
            "more, e.g. --fractions 5,20,100 or --shots 1,4,16."
        )
    return subsets_of(class_members(image_ids, labels), fractions=fractions, shots=shots, seed=seed)


def class_members(image_ids: Ids, labels: IntArray) -> dict[int, IntArray]:
    """Label -> positions of its images in the order of their ids: what subsets are drawn from."""
    by_id = in_order(as_column(image_ids))
    return {int(label): by_id[labels[by_id] == label] for label in np.unique(labels)}


def subsets_of(
    members: Mapping[int, IntArray],
    *,
    fractions: Sequence[float],
    shots: Sequence[int],
    seed: int,
) -> dict[Budget, IntArray]:
    """As `nested_subsets`, which says what they are, of images that were put in order before."""
    orders = [
        generator("subset", seed, label).permutation(images) for label, images in members.items()
    ]
    subsets: dict[Budget, IntArray] = {}
    for fraction in fractions:
        counts = [max(1, _nearest(fraction / 100 * len(order))) for order in orders]
        subsets["fraction", fraction] = _take(orders, counts)
    for count in shots:
        subsets["shots", count] = _take(orders, [count] * len(orders))
    return subsets


def _take(orders: Sequence[IntArray], counts: Sequence[int]) -> IntArray:
    """The first few of each class, ascending."""
    taken = np.zeros(sum(map(len, orders)), dtype=np.bool_)
    for order, count in zip(orders, counts, strict=True):
        taken[order[:count]] = True
    return np.flatnonzero(taken)


def _nearest(value: float) -> int:
    """To the nearest whole number, halves upwards (round() would go to the even one)."""
    return int(np.floor(value + 0.5))
