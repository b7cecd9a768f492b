"""Which images a report shows: a few, chosen by their hash, so that it stays small."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

DEFAULT = 120
"""Images of all galleries together, if nobody says."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many images each part of a report may show.

    Attributes:
        galleries: of all classes together.
        worst: of each kind of worst images.
        mistakes: wrong answers.
        pairs: of duplicates, two images each.
        points: of an embedding map, whose pictures are thumbnails.
    """

    galleries: int
    worst: int
    mistakes: int
    pairs: int
    points: int = 600


def share(images: int) -> Share:
    """Parts of a budget: three eighths for the classes, a quarter for the five worst kinds.

    Args:
        images: at least 1; all galleries together show at most this many or, of a budget so
            small, one of each part.
    """
    return Share(
        galleries=max(1, 3 * images // 8),
        worst=max(1, images // 20),
        mistakes=max(1, images // 10),
        pairs=max(1, images // 10),
    )


def in_turn(labels: Mapping[str, int], count: int) -> list[str]:
    """A few images, classes in turn, in the order of their ids.

    An id is the SHA-256 of the file, which says nothing about the image: none is chosen for
    how well it went.

    Args:
        labels: image id -> class index.
        count: how many at most.
    """
    turns = (id_ for turn in zip_longest(*_by_class(labels)) for id_ in turn if id_ is not None)
    return [id_ for id_, _ in zip(turns, range(count), strict=False)]


def extreme(
    values: Mapping[str, float], count: int, *, lowest: bool = True
) -> list[tuple[str, float]]:
    """The images with the lowest values, or the highest, that one first; ties by id.

    Args:
        values: image id -> value.
        count: how many at most.
    """
    sign = 1 if lowest else -1
    return sorted(values.items(), key=lambda pair: (sign * pair[1], pair[0]))[:count]


def stratified(labels: Mapping[str, int], count: int) -> list[str]:
    """A sample in which each class has its share of the images, at least one; in order of ids.

    Args:
        labels: image id -> class index.
        count: how many at most, if there are not more classes than that.
    """
    if len(labels) <= count:
        return sorted(labels)
    share_ = count / len(labels)
    # Rounded down, so that the classes with one image do not lift the sum above the count by much.
    taken = (ids[: max(1, int(share_ * len(ids)))] for ids in _by_class(labels))
    return sorted(id_ for ids in taken for id_ in ids)[:count]


def _by_class(labels: Mapping[str, int]) -> list[list[str]]:
    """The ids of each class, in order."""
    return [
        sorted(id_ for id_, label in labels.items() if label == index)
        for index in sorted(set(labels.values()))
    ]
