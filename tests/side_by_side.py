"""Calls of a model in several threads, as stage one makes them on a CPU."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from medfocus_pipeline.devices import calls_at_once
from medfocus_pipeline.types import Candidates

Input = TypeVar("Input")
Answer = TypeVar("Answer")

_THREADS, _ROUNDS = 3, 4


def alone_and_together(
    call: Callable[[Input], Answer], inputs: Sequence[Input]
) -> list[tuple[Answer, Answer]]:
    """What each input gives by itself, and beside calls of others; several times each."""
    with calls_at_once("cpu"):
        alone = [call(one) for one in inputs] * _ROUNDS
        with ThreadPoolExecutor(_THREADS) as callers:
            together = list(callers.map(call, list(inputs) * _ROUNDS))
    return list(zip(alone, together, strict=True))


def check_equal(one: Sequence[Candidates], other: Sequence[Candidates]) -> None:
    """The same candidates of every image, to the last bit."""
    for mine, yours in zip(one, other, strict=True):
        for name in ("masks", "score", "stability", "support", "boxes"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(yours, name))
