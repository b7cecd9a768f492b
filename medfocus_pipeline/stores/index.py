"""The index of a store: which rows are done. Parquet only, so that asking is cheap.

It is made of parts, one for a shard, and of segments, which many parts are merged into.
"""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from medfocus_pipeline.errors import DamagedError
from medfocus_pipeline.sealed import no_access, present
from medfocus_pipeline.stores import segments
from medfocus_pipeline.stores.parts import DataFiles, Part, part_path, read_part
from medfocus_pipeline.stores.segments import read_segment, segment_of, segment_path, write_segment

log = logging.getLogger(__name__)

_PART = re.compile(r"part-([0-9]{6,})\.parquet")
_NOT_AS_WRITTEN = (DamagedError, ValueError, KeyError, TypeError)

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


def id_array(image_ids: Sequence[str]) -> pa.StringArray:
    """Ids as a column, of up to 33 million images: ``pa.array`` imports pandas, half a second."""
    texts = [image_id.encode() for image_id in image_ids]
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int64).astype(np.int32)
    buffers = pa.py_buffer(ends.tobytes()), pa.py_buffer(b"".join(texts))
    return pa.StringArray.from_buffers(len(texts), *buffers)


def read_index(store: Path, *, key: str, columns: Sequence[str] | None = None) -> Index:
    """A store's whole index, checked against its seals and the sizes of the data files.

    Parts are looked at before segments: one that goes into a segment meanwhile is found there.

    Args:
        key: of the store.
        columns: of the parts' tables; None is all of them.

    Raises:
        AccessError: something cannot be read now; what was computed may all be there.
    """
    reader = _Reader(store, key, columns)
    for shard in _numbers(store, _PART):
        reader.part(shard)
    for number in _numbers(store, segments.NAME):
        reader.segment(number)
    parts = dict(sorted(reader.parts.items()))
    damaged = {shard: why for shard, why in sorted(reader.damaged.items()) if shard not in parts}
    for shard, problem in damaged.items():
        log.warning("%s: shard %d will be computed again: %s", store.name, shard, problem)
    return Index(parts, damaged)


class _Reader:
    """Collects the parts of an index; of a shard that is read twice the first good one counts."""

    def __init__(self, store: Path, key: str, columns: Sequence[str] | None) -> None:
        self.parts: dict[int, Part] = {}
        self.damaged: dict[int, str] = {}
        self._store, self._key, self._columns = store, key, columns
        self._files = DataFiles(store)

    def part(self, shard: int) -> None:
        try:
            self._take(read_part(self._store, shard, key=self._key, columns=self._columns))
        except _NOT_AS_WRITTEN as error:
            if present(part_path(self._store, shard)):
                self.damaged[shard] = str(error)

    def segment(self, number: int) -> None:
        try:
            found = read_segment(self._store, number, key=self._key, columns=self._columns)
        except _NOT_AS_WRITTEN as error:
            shards = range(number * segments.SHARDS, (number + 1) * segments.SHARDS)
            free = next((shard for shard in shards if shard not in self.parts), None)
            if free is not None:
                why = f"segment {number}, of up to {segments.SHARDS} shards: {error}"
                self.damaged[free] = why
            return
        for part in found:
            self._take(part)

    def _take(self, part: Part) -> None:
        try:
            self._files.check(part)
        except DamagedError as error:
            self.damaged.setdefault(part.shard, str(error))
        else:
            self.parts.setdefault(part.shard, part)


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


def compaction(store: Path, *, key: str) -> Iterator[Path]:
    """Merge the parts into segments, if there are many; a kill between two steps loses nothing.

    Call it with the writer's lock held. A part that is damaged, or whose data is, stays.

    Yields:
        After each step what it wrote or removed.
    """
    loose = _numbers(store, _PART)
    if len(loose) <= _FEW:
        return
    for number in sorted({segment_of(shard) for shard in loose}):
        reader = _Reader(store, key, None)  # of one segment: memory does not grow with the store
        for shard in loose:
            if segment_of(shard) == number:
                reader.part(shard)
        moving = sorted(reader.parts)
        reader.segment(number)
        if not moving:
            continue
        write_segment(store, number, reader.parts.values(), key=key)
        yield segment_path(store, number)
        for shard in moving:
            part_path(store, shard).unlink(missing_ok=True)
            yield part_path(store, shard)


def _numbers(store: Path, name: re.Pattern[str]) -> list[int]:
    """Numbers of the index's files of a name, ascending."""
    folder = store / "index"
    try:
        names = os.listdir(folder)  # noqa: PTH208 - iterdir makes a path of each
    except FileNotFoundError:
        return []
    except OSError as error:
        raise no_access(folder, error) from error
    return sorted(int(found[1]) for one in names if (found := name.fullmatch(one)))
