"""Fills a store: reading, the model and writing overlap; a shard is computed whole.

Threads read ahead, others run the model, one writes. Memory is bounded by the batches under
way and the shards in flight, never by the data set.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medfocus_pipeline.errors import ImageError
from medfocus_pipeline.stores.index import Index
from medfocus_pipeline.stores.store import Store, remove_partial_files

log = logging.getLogger(__name__)

Loaded = TypeVar("Loaded")

_READ_AHEAD_BATCHES = 2
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did.

    Attributes:
        computed: number of rows written.
        problems: image id -> why its row could not be computed.
    """

    computed: int
    problems: dict[str, str]


def missing_rows(index: Index, image_ids: Iterable[str]) -> list[str]:
    """Ids without a row, each once, in the order given."""
    done = index.done
    return [id_ for id_ in dict.fromkeys(image_ids) if id_ not in done]


def plan_shards(
    index: Index, image_ids: Sequence[str], *, shard_rows: int
) -> list[tuple[int, list[str]]]:
    """Missing rows, cut into shards that get the lowest free numbers.

    The plan depends on what is done and on the order of `image_ids` only, so a run that
    was killed goes on with the very shards of the run that was not.

    Args:
        image_ids: every row that should be there; an id that stands twice counts once.
    """
    missing = missing_rows(index, image_ids)
    groups = [missing[first : first + shard_rows] for first in range(0, len(missing), shard_rows)]
    taken = set(index.parts)
    free = (number for number in range(len(taken) + len(groups)) if number not in taken)
    return list(zip(free, groups, strict=False))


def fill(
    store: Store,
    image_ids: Sequence[str],
    job: Job[Loaded],
    *,
    on_rows: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Compute and write every missing row; call it with the store's lock held.

    Args:
        on_rows: told the number of rows after each batch.

    Raises:
        StoreError: the disk is full, or a computed value is not finite.
    """
    remove_partial_files(store.path)
    index = store.index()
    plan = plan_shards(index, image_ids, shard_rows=store.shard_rows)
    store.drop(index.damaged)
    store.reserve(max((shard + 1 for shard, _ in plan), default=0))
    problems: dict[str, str] = {}
    computed = 0
    with ThreadPoolExecutor(1, "writer") as writer, _Batches(job, plan) as batches:
        written: deque[Future[None]] = deque()
        for shard, parts in batches.shards():
            ids: list[str] = []
            blocks: list[Block] = []
            for part in parts:
                ids += part.ids
                blocks += part.blocks
                problems |= part.problems
                on_rows(len(part.ids) + len(part.problems))
            if written:
                written.popleft().result()
            if ids:
                block = _join(blocks)
                written.append(writer.submit(store.write, shard, ids, block.arrays, block.columns))
                computed += len(ids)
        for pending in written:
            pending.result()
    return Outcome(computed, problems)


def compute_all(job: Job[Loaded], inputs: Sequence[Loaded]) -> list[Block]:
    """The rows of inputs that are in memory: blocks in order, none of no input."""
    model = Halving(job.compute, job.batch_size)
    starts = range(0, len(inputs), job.batch_size)
    batches = [inputs[start : start + job.batch_size] for start in starts]
    with ThreadPoolExecutor(job.calls, "model") as callers:
        return [block for blocks in callers.map(model, batches) for block in blocks]


@dataclass(frozen=True, slots=True)
class _Part:
    """A batch that went through the model: its rows, and what could not be loaded."""

    ids: list[str]
    blocks: list[Block]
    problems: dict[str, str]


class _Batches(Generic[Loaded]):
    """Loads and computes batches, a bounded number at a time; hands them out in the plan's order.

    The next shard's batches are under way while the last of a shard are waited for.
    """

    def __init__(self, job: Job[Loaded], plan: Sequence[tuple[int, list[str]]]) -> None:
        self._job = job
        self._plan = plan
        self._model = Halving(job.compute, job.batch_size)
        self._readers = ThreadPoolExecutor(job.workers, "reader")
        self._callers = ThreadPoolExecutor(job.calls, "model")
        self._under_way: deque[Future[_Part]] = deque()
        self._upcoming = iter(
            ids[start : start + job.batch_size]
            for _, ids in plan
            for start in range(0, len(ids), job.batch_size)
        )

    def __enter__(self) -> "_Batches[Loaded]":
        return self

    def __exit__(self, *_: object) -> None:
        self._callers.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(cancel_futures=True)  # a caller that waits for one gives up
        self._callers.shutdown()

    def shards(self) -> Iterator[tuple[int, Iterator[_Part]]]:
        """Each shard's number and its computed batches."""
        for shard, ids in self._plan:
            batches = -(-len(ids) // self._job.batch_size)
            yield shard, (self._next() for _ in range(batches))

    def _next(self) -> _Part:
        while len(self._under_way) < self._job.calls + _READ_AHEAD_BATCHES:
            ids = next(self._upcoming, None)
            if ids is None:
                break
            loads = [self._readers.submit(self._load, id_) for id_ in ids]
            self._under_way.append(self._callers.submit(self._compute, ids, loads))
        return self._under_way.popleft().result()

    def _load(self, image_id: str) -> Loaded | ImageError:
        try:
            return self._job.load(image_id)
        except ImageError as error:
            return error

    def _compute(self, ids: Sequence[str], loads: Sequence["Future[Loaded | ImageError]"]) -> _Part:
        good: dict[str, Loaded] = {}
        problems: dict[str, str] = {}
        for id_, load in zip(ids, loads, strict=True):
            loaded = load.result()
            if isinstance(loaded, ImageError):
                problems[id_] = str(loaded)
            else:
                good[id_] = loaded
        return _Part(list(good), self._model(list(good.values())), problems)


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


def _join(blocks: Sequence[Block]) -> Block:
    names, columns = blocks[0].arrays, blocks[0].columns
    return Block(
        {name: np.concatenate([block.arrays[name] for block in blocks]) for name in names},
        {name: pa.concat_arrays([block.columns[name] for block in blocks]) for name in columns},
    )
