"""What a stage computes: rows in batches, a model called once or several times at a time."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pyarrow as pa
from numpy.typing import NDArray

log = logging.getLogger(__name__)

Loaded = TypeVar("Loaded")

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True, slots=True)
class Block:
    """Computed rows.

    Attributes:
        arrays: array name -> ``(n, ...)``.
        columns: index column -> its n values.
    """

    arrays: Mapping[str, NDArray[Any]]
    columns: Mapping[str, pa.Array]


@dataclass(frozen=True, slots=True)
class Job(Generic[Loaded]):
    """How to compute rows.

    Attributes:
        load: one row's input from its id; called in several threads; may raise `ImageError`.
        compute: rows from a batch of inputs; called in `calls` threads; may run out of memory.
        batch_size: inputs a call of `compute`.
        workers: threads that load.
        calls: calls of `compute` at a time, see `devices.calls_at_once`.
    """

    load: Callable[[str], Loaded]
    compute: Callable[[Sequence[Loaded]], Block]
    batch_size: int
    workers: int
    calls: int = 1


def compute_all(job: Job[Loaded], inputs: Sequence[Loaded]) -> list[Block]:
    """The rows of inputs that are in memory: blocks in order, none of no input."""
    model = Halving(job.compute, job.batch_size)
    starts = range(0, len(inputs), job.batch_size)
    batches = [inputs[start : start + job.batch_size] for start in starts]
    with ThreadPoolExecutor(job.calls, "model") as callers:
        return [block for blocks in callers.map(model, batches) for block in blocks]


class Halving(Generic[Loaded]):
    """Calls a model in batches; after running out of memory, in half as large ones.

    Several threads may call it: what one of them learns goes for all.
    """

    def __init__(self, compute: Callable[[Sequence[Loaded]], Block], batch_size: int) -> None:
        self._compute = compute
        self._size = batch_size
        self._lock = threading.Lock()

    def __call__(self, inputs: Sequence[Loaded]) -> list[Block]:
        """The answers to all inputs, in order, one block a batch."""
        blocks: list[Block] = []
        start = 0
        while start < len(inputs):
            size = self._size
            try:
                blocks.append(self._compute(inputs[start : start + size]))
            except (RuntimeError, MemoryError) as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
                self._halve(size)
                continue
            start += size
        return blocks

    def _halve(self, size: int) -> None:
        with self._lock:
            if self._size == size:  # no other thread was first
                self._size = size // 2
                log.warning("Out of memory: going on with batches of %d.", self._size)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a framework's exception says that memory ran out, on any device."""
    if isinstance(error, MemoryError):
        return True
    return any(phrase in str(error).lower() for phrase in _OUT_OF_MEMORY)
