"""Agreement across prompts: how many of a segmenter's other answers confirm a candidate."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.types import FloatArray, IntArray

_SIDE = 64
"""Masks are compared at about this side, in pixels."""


@dataclass(frozen=True, slots=True)
class Votes:
    """Where a segmenter was asked, and which of the prompts each mask answers.

    Attributes:
        points: ``(p, 2) float32``, x and y of every prompt as shares of the frame, in [0, 1).
        prompt: ``(m,) int64``, of each proposed mask, its row in `points`.
    """

    points: FloatArray
    prompt: IntArray


def covers(masks: NDArray[np.bool_], points: FloatArray) -> NDArray[np.bool_]:
    """Which points each mask covers.

    Args:
        masks: ``(m, S, S) bool``.
        points: ``(p, 2) float32``, x and y as shares of the frame, in [0, 1).

    Returns:
        ``(m, p) bool``.
    """
    x, y = np.floor(points * masks.shape[-1]).astype(np.int64).T
    inside: NDArray[np.bool_] = masks[:, y, x]
    return inside


def support(masks: NDArray[np.bool_], *, of: IntArray, among: IntArray, votes: Votes) -> FloatArray:
    """How far the prompts inside a mask agree with it.

    Every prompt that stands inside the mask, other than its own, votes with the greatest IoU
    of its masks with this one, 0 if it has none. The support is the sum of the votes over
    their number plus one: a few votes count for less than many, and none for nothing.

    Args:
        masks: ``(m, S, S) bool``, all that were proposed.
        of: ``(k,) int64``, the masks whose support is asked for.
        among: ``(u,) int64``, the masks good enough to vote with.
        votes: where they come from.

    Returns:
        ``(k,) float32`` in [0, 1).
    """
    step = max(1, masks.shape[-1] // _SIDE)
    small = masks[:, ::step, ::step]
    bits, sizes = np.packbits(small, axis=-1), np.count_nonzero(small, axis=(1, 2))
    ballot, voters = bits[among], votes.prompt[among]
    found = np.zeros(len(of), dtype=np.float32)
    for row, index in enumerate(of):
        shared = np.bitwise_count(ballot & bits[index]).sum(axis=(1, 2), dtype=np.int64)
        union = sizes[among] + sizes[index] - shared
        vote = np.zeros(len(votes.points))
        np.maximum.at(vote, voters, shared / np.maximum(union, 1))
        others = covers(masks[index : index + 1], votes.points)[0]
        others[votes.prompt[index]] = False
        found[row] = vote[others].sum() / (np.count_nonzero(others) + 1)
    return found
