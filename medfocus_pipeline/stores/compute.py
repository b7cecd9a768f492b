"""Fills a store: reading, the model and writing overlap; a shard is computed whole.

Threads read ahead, others run the model, one writes. Memory is bounded by the batches under
way and the shards in flight, never by the data set.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, TypeAlias

import numpy as np
import pyarrow as pa

from medfocus_pipeline.columns import Ids, distinct
from medfocus_pipeline.errors import ImageError
from medfocus_pipeline.stores.index import Survey
from medfocus_pipeline.stores.job import Block, Halving, Job, Loaded
from medfocus_pipeline.stores.store import Store

_READ_AHEAD_BATCHES = 2

Shards: TypeAlias = Iterable[tuple[int, list[str]]]
"""Number of each shard that is to be filled, and the ids of its rows; goes through it twice."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which shards are to be filled with which rows; their ids are made as they are asked for.

    Attributes:
        numbers: of the shards.
        ids: of all rows, in the shards' order.
        shard_rows: rows of each shard but the last.
    """

    numbers: list[int]
    ids: pa.StringArray
    shard_rows: int

    def __len__(self) -> int:
        """Number of shards."""
        return len(self.numbers)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Each shard's number and the ids of its rows."""
        for place, number in enumerate(self.numbers):
            yield number, self.ids.slice(place * self.shard_rows, self.shard_rows).to_pylist()

    def rows(self, shard: int) -> int:
        """Number of rows of a shard."""
        first = self.numbers.index(shard) * self.shard_rows
        return min(self.shard_rows, len(self.ids) - first)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did.

    Attributes:
        computed: number of rows written.
        problems: image id -> why its row could not be computed.
    """

    computed: int
    problems: dict[str, str]


def plan_shards(found: Survey, *, shard_rows: int) -> Plan:
    """Missing rows, cut into shards that get the lowest free numbers.

    The plan depends on what is done and on the order of the ids only, so a run that was killed
    goes on with the very shards of the run that was not.
    """
    count = -(-len(found.missing) // shard_rows)
    numbers = range(len(found.shards) + count)
    free = (number for number in numbers if number not in found.shards)
    return Plan(list(islice(free, count)), found.missing, shard_rows)


def fill(
    store: Store,
    image_ids: Ids,
    job: Job[Loaded],
    *,
    on_rows: Callable[[int], None] = lambda _: None,
) -> Outcome:
    """Compute and write every missing row; call it with the store's lock held.

    Args:
        image_ids: of every row that should be there; one that stands twice counts once.
        on_rows: told the number of rows after each batch.

    Raises:
        StoreError: the disk is full, or a computed value is not finite.
    """
    outcome = fill_shards(store, prepare(store, image_ids), job, on_rows=on_rows)
    store.compact()
    return outcome


def prepare(store: Store, image_ids: Ids) -> Plan:
    """Make room for every missing row, and say which shard it goes to.

    Afterwards any process may fill any of the shards; call it with the store's lock held.

    Raises:
        StoreError: the disk is full.
    """
    remove_partial_files(store.path)
    found = store.survey(distinct(image_ids))
    plan = plan_shards(found, shard_rows=store.shard_rows)
    store.drop(found.damaged)
    store.reserve(1 + max([*found.shards, *plan.numbers], default=-1))
    return plan


def remove_partial_files(path: Path) -> None:
    """Remove what a killed writer left behind; call it with the writer's lock held."""
    for leftover in path.rglob("*.partial"):
        leftover.unlink(missing_ok=True)


def fill_shards(
    store: Store, plan: Shards, job: Job[Loaded], *, on_rows: Callable[[int], None] = lambda _: None
) -> Outcome:
    """Compute and write shards of a store that was prepared for them.

    Args:
        plan: shards that no other process fills.
        on_rows: told the number of rows after each batch.

    Raises:
        StoreError: the disk is full, or a computed value is not finite.
    """
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

    def __init__(self, job: Job[Loaded], plan: Shards) -> None:
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


def _join(blocks: Sequence[Block]) -> Block:
    names, columns = blocks[0].arrays, blocks[0].columns
    return Block(
        {name: np.concatenate([block.arrays[name] for block in blocks]) for name in names},
        {name: pa.concat_arrays([block.columns[name] for block in blocks]) for name in columns},
    )
