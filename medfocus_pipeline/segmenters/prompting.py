"""Adaptive prompting: which few points of a grid to ask, since prompts are what SAM 2 costs.

At most a quarter of the points are asked: first a coarse grid, then, in rounds, points that
nothing explains yet. A point is explained by one that was asked if the two look alike, and by a
confident candidate that covers it if it looks like what the candidate covers on average; the
next point is the one farthest from every explanation. Position counts among the looks, so that
a small candidate explains more of what it covers than a huge one, and the grid is covered
evenly where everything looks alike.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.types import FloatArray, IntArray

_SHARE = 4
"""The grid has this many times as many points as are asked."""

_COARSE = 3
"""Points of the grid along a side, for one of the coarse grid."""

_ROUNDS = 2

AGREED = 0.5
"""Least support of a confident candidate: as if one other prompt gave the very same mask."""


def grid(side: int) -> FloatArray:
    """The points of a grid, row by row, ``(side * side, 2) float32``: x, y as shares of the frame.

    They are the centres of the grid's cells.
    """
    line = (np.arange(side, dtype=np.float32) + 0.5) / side
    y, x = np.meshgrid(line, line, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def coarse_points(side: int) -> IntArray:
    """The points of the grid that are asked first, ``(p,) int64`` in rising order."""
    count = max(1, round(side / _COARSE))
    line = np.floor((np.arange(count) + 0.5) / count * side).astype(np.int64)
    return (line[:, None] * side + line).ravel()


def rounds(side: int) -> list[int]:
    """How many points each round after the first asks."""
    left = side * side // _SHARE - len(coarse_points(side))
    sizes = [len(part) for part in np.array_split(np.arange(max(0, left)), _ROUNDS)]
    return [size for size in sizes if size > 0]


def describe(levels: Sequence[FloatArray], points: FloatArray) -> FloatArray:
    """What the points look like and where they are.

    Args:
        levels: ``(n, c) float32`` each, features of the n points at one resolution.
        points: ``(n, 2) float32``, from `grid`.

    Returns:
        ``(n, d) float32``: the levels and the position side by side, each centred and scaled to
        a mean squared length of 1 (a level that is the same everywhere: of 0).
    """
    return np.concatenate([_scaled(block) for block in (*levels, points)], axis=1)


def next_points(
    features: FloatArray, asked: IntArray, *, covered: NDArray[np.bool_], count: int
) -> IntArray:
    """The points to ask next: the least explained, one after the other.

    Args:
        features: ``(n, d) float32``, of all n points of a grid, from `describe`.
        asked: ``(p,) int64``, those that were asked before, at least one.
        covered: ``(m, n) bool``, which points each confident candidate covers.
        count: how many, at most n - p.

    Returns:
        ``(count,) int64``, none of them asked before, none twice.
    """
    some = covered[covered.any(axis=1)].astype(np.float32)
    means = some @ features / some.sum(axis=1, keepdims=True)
    by_candidates = np.where(some > 0, _distances(means, features), np.inf)
    by_points = _distances(features[asked], features)
    unexplained = np.concatenate([by_points, by_candidates]).min(axis=0)
    unexplained[asked] = -1
    found: list[int] = []
    for _ in range(count):
        best = int(unexplained.argmax())
        found.append(best)
        unexplained = np.minimum(unexplained, _distances(features[[best]], features)[0])
        unexplained[best] = -1
    return np.array(found, dtype=np.int64)


def _scaled(block: FloatArray) -> FloatArray:
    centred = block - block.mean(axis=0)
    length = np.sqrt(np.square(centred).sum(axis=1).mean())
    return np.asarray(centred / max(length, np.finfo(np.float32).tiny), dtype=np.float32)


def _distances(rows: FloatArray, others: FloatArray) -> FloatArray:
    """Euclidean distance of each of r rows from each of n others, ``(r, n) float32``."""
    squares = np.square(rows).sum(axis=1)[:, None] + np.square(others).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(squares - 2 * rows @ others.T, 0)), dtype=np.float32)
