"""Fills a store: reading, the model and writing overlap; a shard is computed whole.

Threads read ahead, others run the model, one writes. Memory is bounded by the batches under
way and the shards in flight, never by the data set.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medfocus_pipeline.errors import ImageError
from medfocus_pipeline.stores.index import Index, id_array
from medfocus_pipeline.stores.job import Block, Halving, Job, Loaded
from medfocus_pipeline.stores.store import Store, remove_partial_files

_READ_AHEAD_BATCHES = 2

Plan: TypeAlias = list[tuple[int, list[str]]]
"""Number of each shard that is to be filled, and the ids of its rows."""


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
    wanted = id_array(list(dict.fromkeys(image_ids)))
    there = pc.is_in(wanted, value_set=index.ids.combine_chunks())
    missing: list[str] = wanted.filter(pc.invert(there)).to_pylist()
    return missing


def plan_shards(index: Index, image_ids: Sequence[str], *, shard_rows: int) -> Plan:
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
    outcome = fill_shards(store, prepare(store, image_ids), job, on_rows=on_rows)
    store.compact()
    return outcome


def prepare(store: Store, image_ids: Sequence[str]) -> Plan:
    """Make room for every missing row, and say which shard it goes to.

    Afterwards any process may fill any of the shards; call it with the store's lock held.

    Raises:
        StoreError: the disk is full.
    """
    remove_partial_files(store.path)
    index = store.index(columns=["image_id"])
    plan = plan_shards(index, image_ids, shard_rows=store.shard_rows)
    store.drop(index.damaged)
    store.reserve(1 + max([*index.parts, *(shard for shard, _ in plan)], default=-1))
    return plan


def fill_shards(
    store: Store, plan: Plan, job: Job[Loaded], *, on_rows: Callable[[int], None] = lambda _: None
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

    def __init__(self, job: Job[Loaded], plan: Plan) -> None:
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
