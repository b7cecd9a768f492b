"""Which images train and which test."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.columns import Ids, as_column, is_empty, is_text, kept
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.manifest_columns import SYNTHETIC, VALIDATION
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.ids import groups, in_order
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import IntArray

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of the manifest, ascending; no row is in both, unusable rows in neither.

    Attributes:
        train, test: ``(n,) int64``.
        official: the data set's own split, else drawn by `test_split`.
    """

    train: IntArray
    test: IntArray
    official: bool


def test_split(manifest: Manifest, *, test_share: float, seed: int) -> Split:
    """The official split where there is one, else a stratified and grouped one.

    A drawn split keeps the images of one patient, and files of equal bytes, on one side. Each
    class gives ``test_share`` of its images, rounded, at least one and never all; with groups
    it may fall short by less than its largest group. A class with a single image or patient
    goes to training. The draw does not depend on the order or the names of the files. Synthetic
    images train, those of a validation split are on neither side.

    Args:
        manifest: of the data set.
        test_share: share of the usable images, in (0, 1); not used by an official split.
        seed: of the draw.

    Raises:
        DataError: fewer than two classes, a class without a training image, or no test image.
    """
    labels, usable = manifest.labels, manifest.usable
    sides = kept(manifest.column("split"), usable)
    made = is_text(sides, SYNTHETIC)
    other = ~made & ~is_text(sides, VALIDATION)
    rows, synthetic = usable[other], usable[made]
    _check_classes(manifest, labels[rows], "usable")
    if official := not is_empty(sides)[other].all():
        in_test = is_text(sides, "test")[other]
        _check_official(manifest, in_test)
    else:
        units = _units(manifest, rows)
        in_test = _draw(units, labels[rows], test_share, generator("test split", seed))
        if not in_test.any():
            raise DataError(
                f"No image of {manifest.name!r} can be spared for testing: every class is one "
                "image or one patient. Add images, or give an official split."
            )
    train = np.sort(np.concatenate([rows[~in_test], synthetic]))
    split = Split(train=train, test=rows[in_test], official=official)
    _check_classes(manifest, labels[split.train], "training")
    for index in np.setdiff1d(labels[rows], labels[split.test]):
        _log.warning("%s: class %r has no test image", manifest.name, manifest.classes[index])
    return split


def _check_classes(manifest: Manifest, labels: IntArray, kind: str) -> None:
    """Refuse data with fewer than two classes, or a class of the manifest without an image."""
    there = set(np.unique(labels).tolist())
    missing = [name for n, name in enumerate(manifest.classes) if n not in there]
    if len(labels) == 0:
        first = "; the first: " + " ".join(manifest.problems[0]) if manifest.problems else ""
        raise DataError(
            f"{manifest.name!r} has no {kind} image among {len(manifest)} files{first}. "
            "Check DATA and the card's folders."
        )
    if missing:
        raise DataError(
            f"{manifest.name!r} has no {kind} image of {', '.join(map(repr, missing))}. Add some "
            "to the class's folder, or take the class out of the card."
        )
    if len(manifest.classes) < 2:
        raise DataError(
            f"{manifest.name!r} has one class only, {manifest.classes[0]!r}; expected two or "
            "more. Put the images of each class in a folder of its own."
        )


def _check_official(manifest: Manifest, in_test: NDArray[np.bool_]) -> None:
    """Refuse an official split of which one side is empty."""
    if in_test.all() or not in_test.any():
        empty = "training" if in_test.all() else "test"
        raise DataError(
            f"The official split of {manifest.name!r} has no usable {empty} image. Add its "
            "folder, or take the splits out of the card to have one drawn."
        )


def _units(manifest: Manifest, rows: IntArray) -> IntArray:
    """Which of the rows must stay together (patient, equal bytes), ``(n,) int64``: equal numbers.

    They count up with the smallest image id of each.
    """
    ids, patients = (kept(manifest.column(name), rows) for name in ("image_id", "group"))
    unit = connected([ids, patients])
    by_id = unit[in_order(ids)]
    first = np.empty(unit.max(initial=-1) + 1, np.int64)
    first[by_id[::-1]] = np.arange(len(by_id))[::-1]  # of several values the last one stays
    rank = np.empty_like(first)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[unit]


def connected(says: Sequence[Ids]) -> IntArray:
    """Which of n images belong together, ``(n,) int64``: equal numbers, by first appearance.

    Args:
        says: lists of n words (image ids, patients, ...); images with an equal word in one of
            the lists belong together, and so does what is connected over others. Empty words
            say nothing.
    """
    least = np.arange(len(says[0]))  # of those that an image is known to belong with
    told: list[tuple[IntArray, IntArray]] = []
    for words in says:
        column = as_column(words)
        said = np.flatnonzero(~is_empty(column))
        first, number = groups(kept(column, said))
        if len(first) < len(said):
            told.append((said, number))
    while told:
        before = least
        for said, number in told:
            of_word = np.full(number.max() + 1, len(least))
            np.minimum.at(of_word, number, least[said])
            least = least.copy()
            least[said] = of_word[number]
        least = least[least]
        if np.array_equal(least, before):
            is_first = least == np.arange(len(least))
            return (np.cumsum(is_first) - 1)[least]
    return least


def _draw(
    units: IntArray, labels: IntArray, share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which of the rows test, ``(n,) bool``: units in random order, as long as they fit.

    Args:
        units: ``(n,) int64``, the unit of each row, from 0.
        labels: ``(n,) int64`` of the rows; each class has one.
    """
    total = np.bincount(labels)
    most = np.clip(np.floor(share * total + 0.5), np.minimum(1, total - 1), total - 1).tolist()
    pairs, sizes = np.unique(units * len(total) + labels, return_counts=True)
    owners, classes = np.divmod(pairs, len(total))
    shuffled = rng.permutation(owners[-1] + 1)
    if len(shuffled) == len(units):  # each is one image: of each class the first so many
        return _first_of_each(classes[shuffled], np.array(most))[np.argsort(shuffled)][units]
    bounds = np.searchsorted(owners, np.arange(owners[-1] + 2)).tolist()
    # (class, images) of each unit, the units one after the other: no array for each.
    counts = list(zip(classes.tolist(), sizes.tolist(), strict=True))
    order = shuffled.tolist()
    taken = np.zeros(len(order), dtype=bool)
    have = [0] * len(total)

    def fits(n: int, most: Sequence[float]) -> bool:
        return all(have[c] + size <= most[c] for c, size in counts[bounds[n] : bounds[n + 1]])

    def take(n: int) -> None:
        taken[n] = True
        for c, size in counts[bounds[n] : bounds[n + 1]]:
            have[c] += size

    for n in order:
        if fits(n, most):
            take(n)
            if have == most:
                break
    rest = (total - 1).tolist()
    for label in np.flatnonzero((np.array(have) == 0) & (total > 1)).tolist():
        # Every unit of this class was too large: the smallest that leaves something to train.
        own = set(owners[classes == label].tolist())
        spare = [n for n in order if n in own and fits(n, rest)]
        if spare and have[label] == 0:
            take(min(spare, key=lambda n: sum(s for _, s in counts[bounds[n] : bounds[n + 1]])))
    return taken[units]


def _first_of_each(classes: IntArray, most: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which are among the first `most` of their class, ``(n,) bool``.

    Args:
        classes: ``(n,) int64``, in the order in which they are taken.
        most: ``(K,)``, of each class.
    """
    by_class = np.argsort(classes, kind="stable")
    sizes = np.bincount(classes, minlength=len(most))
    place = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    taken = np.zeros(len(classes), np.bool_)
    taken[by_class] = place < most[classes[by_class]]
    return taken
