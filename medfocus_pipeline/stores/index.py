"""The index of a store: which rows are done. Parquet only, so that asking is cheap.

It is made of parts, one for a shard, and of segments, which many parts are merged into.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from medfocus_pipeline.columns import row_array
from medfocus_pipeline.errors import DamagedError
from medfocus_pipeline.ids import Lookup
from medfocus_pipeline.places import names_in
from medfocus_pipeline.sealed import no_access, present
from medfocus_pipeline.stores import segments
from medfocus_pipeline.stores.parts import DataFiles, Part, part_path, read_part
from medfocus_pipeline.stores.segments import read_segment, segment_of, segment_path, write_segment

log = logging.getLogger(__name__)

_PART = re.compile(r"part-([0-9]{6,})\.parquet")
_NOT_AS_WRITTEN = (DamagedError, ValueError, KeyError, TypeError)

_LOOKED_UP = 1 << 16
"""Ids that are looked up at a time, at least."""

_FEW = 64
"""Parts that are left alone: a segment is not written anew for every few rows."""


@dataclass(frozen=True, slots=True)
class Index:
    """The parts that can be trusted, and what is wrong with the others.

    Attributes:
        parts: by shard number, ascending.
        damaged: shard number -> what is wrong, for parts whose data is not as written; of a
            damaged segment one number stands for all.
    """

    parts: dict[int, Part]
    damaged: dict[int, str]

    @property
    def ids(self) -> pa.ChunkedArray:
        """Ids of the rows that are done, in shard order, without a Python object for each."""
        columns = [part.table["image_id"] for part in self.parts.values()]
        chunks = [chunk for column in columns for chunk in column.chunks]
        return pa.chunked_array(chunks, pa.string())

    @property
    def done(self) -> set[str]:
        """Ids of the rows that are done."""
        return set(self.ids.to_pylist())

    def __len__(self) -> int:
        """Number of rows that are done."""
        return sum(part.table.num_rows for part in self.parts.values())

    def table(self) -> pa.Table | None:
        """All rows of all parts, in shard order; None when there are none."""
        tables = [part.table for part in self.parts.values()]
        return pa.concat_tables(tables) if tables else None


@dataclass(frozen=True, slots=True)
class Survey:
    """How far a store is with some rows.

    Attributes:
        missing: ids without a row, in the order that was asked.
        shards: numbers that are taken.
        damaged: see `Index`.
    """

    missing: pa.StringArray
    shards: set[int]
    damaged: dict[int, str]


def read_index(store: Path, *, key: str, columns: Sequence[str] | None = None) -> Index:
    """A store's whole index, checked against its seals and the sizes of the data files.

    Args:
        key: of the store.
        columns: of the parts' tables; None is all of them.

    Raises:
        AccessError: something cannot be read now; what was computed may all be there.
    """
    reader = _Reader(store, key, columns)
    parts = {part.shard: part for part in reader.every()}
    return Index(dict(sorted(parts.items())), reader.damaged_now())


def survey(store: Path, image_ids: pa.StringArray, *, key: str) -> Survey:
    """What of some rows is done, read as `read_index` does but never held.

    Args:
        image_ids: each once.

    Raises:
        AccessError: something cannot be read now.
    """
    lookup, reader = Lookup(image_ids), _Reader(store, key, ["image_id"])
    done, following = np.zeros(len(image_ids), dtype=np.bool_), 0
    for some in _several(reader.every()):
        ids = pa.concat_arrays(some)
        if image_ids.slice(following, len(ids)).equals(ids):  # in the order in which they are asked
            done[following : following + len(ids)] = True
            following += len(ids)
            continue
        found = lookup(ids)
        found = found[found >= 0]
        done[found] = True
        following = int(found[-1]) + 1 if len(found) else following
    missing = image_ids.take(row_array(np.flatnonzero(~done))) if done.any() else image_ids
    return Survey(missing, reader.seen, reader.damaged_now())


def _several(parts: Iterable[Part]) -> Iterator[list[pa.StringArray]]:
    """The ids of parts, of many together: looking up has its price each time."""
    some: list[pa.StringArray] = []
    rows = 0
    for part in parts:
        some += part.table["image_id"].chunks
        rows += part.table.num_rows
        if rows >= _LOOKED_UP:
            yield some
            some, rows = [], 0
    if some:
        yield some


class _Reader:
    """Reads an index, part by part; of a shard that is read twice the first good one counts.

    Attributes:
        seen: shards that are good.
        damaged: shard number -> what is wrong.
    """

    def __init__(self, store: Path, key: str, columns: Sequence[str] | None) -> None:
        self.seen: set[int] = set()
        self.damaged: dict[int, str] = {}
        self._store, self._key, self._columns = store, key, columns
        self._files = DataFiles(store)

    def every(self) -> Iterator[Part]:
        """All that is good.

        Parts are looked at before segments: one that goes into a segment meanwhile is found there.
        """
        for shard in _numbers(self._store, _PART):
            yield from self.part(shard)
        for number in _numbers(self._store, segments.NAME):
            yield from self.segment(number)

    def damaged_now(self) -> dict[int, str]:
        """What of the damaged is not good elsewhere, by shard; the log says so."""
        left = {shard: why for shard, why in sorted(self.damaged.items()) if shard not in self.seen}
        for shard, problem in left.items():
            log.warning("%s: shard %d will be computed again: %s", self._store.name, shard, problem)
        return left

    def part(self, shard: int) -> Iterator[Part]:
        """The part of a shard, if it is good."""
        try:
            found = read_part(self._store, shard, key=self._key, columns=self._columns)
            yield from self._good(found)
        except _NOT_AS_WRITTEN as error:
            if present(part_path(self._store, shard)):
                self.damaged[shard] = str(error)

    def segment(self, number: int) -> Iterator[Part]:
        """The good parts of a segment."""
        try:
            found = read_segment(self._store, number, key=self._key, columns=self._columns)
        except _NOT_AS_WRITTEN as error:
            shards = range(number * segments.SHARDS, (number + 1) * segments.SHARDS)
            free = next((shard for shard in shards if shard not in self.seen), None)
            if free is not None:
                why = f"segment {number}, of up to {segments.SHARDS} shards: {error}"
                self.damaged[free] = why
            return
        for part in found:
            yield from self._good(part)

    def _good(self, part: Part) -> Iterator[Part]:
        try:
            self._files.check(part)
        except DamagedError as error:
            self.damaged.setdefault(part.shard, str(error))
            return
        if part.shard not in self.seen:
            self.seen.add(part.shard)
            yield part


def drop(store: Path, shards: Iterable[int], *, key: str) -> None:
    """Forget shards, whether they have a part or are in a segment; a damaged segment goes whole.

    Call it with the writer's lock held.
    """
    gone = set(shards)
    for number in sorted({segment_of(shard) for shard in gone}):
        try:
            parts = read_segment(store, number, key=key)
        except _NOT_AS_WRITTEN:
            segment_path(store, number).unlink(missing_ok=True)
        else:
            left = [part for part in parts if part.shard not in gone]
            if len(left) < len(parts):
                write_segment(store, number, left, key=key)
    for shard in sorted(gone):
        part_path(store, shard).unlink(missing_ok=True)


def is_scattered(store: Path) -> bool:
    """Whether there are parts enough to be merged."""
    return bool(_loose(store))


def compaction(store: Path, *, key: str) -> Iterator[Path]:
    """Merge the parts into segments, if there are many; a kill between two steps loses nothing.

    Call it with the writer's lock held. A part that is damaged, or whose data is, stays.

    Yields:
        After each step what it wrote or removed.
    """
    loose = _loose(store)
    for number in sorted({segment_of(shard) for shard in loose}):
        reader = _Reader(store, key, None)  # of one segment: memory does not grow with the store
        own = [shard for shard in loose if segment_of(shard) == number]
        parts = [part for shard in own for part in reader.part(shard)]
        moving = [part.shard for part in parts]
        if not moving:
            continue
        write_segment(store, number, [*parts, *reader.segment(number)], key=key)
        yield segment_path(store, number)
        for shard in moving:
            part_path(store, shard).unlink(missing_ok=True)
            yield part_path(store, shard)


def _loose(store: Path) -> list[int]:
    """Shards of the parts that are to be merged; none while they are few."""
    parts = _numbers(store, _PART)
    return parts if len(parts) > _FEW else []


def _numbers(store: Path, name: re.Pattern[str]) -> list[int]:
    """Numbers of the index's files of a name, ascending."""
    folder = store / "index"
    try:
        names = names_in(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise no_access(folder, error) from error
    return sorted(int(found[1]) for one in names if (found := name.fullmatch(one)))
