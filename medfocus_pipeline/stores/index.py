"""The index of a store: which rows are done. Parquet only, so that asking is cheap.

A part is written after its shard's data and renamed into place: a reader that trusts
parts only never sees half a shard. A part also remembers the size of every file of its
shard, so that a truncated or deleted one is found by ``stat`` alone.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from medfocus_pipeline.files import read_parquet, replacing
from medfocus_pipeline.types import JSON

log = logging.getLogger(__name__)

_METADATA = b"medfocus"


@dataclass(frozen=True, slots=True)
class Part:
    """One index part: the rows of one shard.

    Attributes:
        shard: number of the shard, its place along the arrays' first dimension.
        table: ``image_id``, ``shard``, ``row`` (in the array) and the stage's own columns.
        checksum: SHA-256 of the rows' data.
        files: path in the store -> size in bytes, of every data file of the shard.
    """

    shard: int
    table: pa.Table
    checksum: str
    files: dict[str, int]

    @property
    def image_ids(self) -> list[str]:
        """Ids of the part's rows, in the order of the rows."""
        ids: list[str] = self.table["image_id"].to_pylist()
        return ids


@dataclass(frozen=True, slots=True)
class Index:
    """The parts that can be trusted, and what is wrong with the others.

    Attributes:
        parts: by shard number.
        damaged: shard number -> what is wrong, for parts whose data is not as written.
    """

    parts: dict[int, Part]
    damaged: dict[int, str]

    @property
    def done(self) -> set[str]:
        """Ids of the rows that are done."""
        return {id_ for part in self.parts.values() for id_ in part.image_ids}

    def table(self) -> pa.Table | None:
        """All rows of all parts, in shard order; None when there are none."""
        tables = [self.parts[shard].table for shard in sorted(self.parts)]
        return pa.concat_tables(tables) if tables else None


def part_path(store: Path, shard: int) -> Path:
    """Where the index part of a shard is."""
    return store / "index" / f"part-{shard:06d}.parquet"


def write_part(
    store: Path,
    shard: int,
    *,
    image_ids: Sequence[str],
    first_row: int,
    columns: Mapping[str, pa.Array],
    checksum: str,
    files: Mapping[str, int],
) -> None:
    """Declare a shard done; its data must be on disk already."""
    count = len(image_ids)
    table = pa.table(
        {
            "image_id": pa.array(image_ids, pa.string()),
            "shard": pa.array([shard] * count, pa.int32()),
            "row": pa.array(range(first_row, first_row + count), pa.int64()),
            **columns,
        }
    )
    facts: JSON = {"shard": shard, "checksum": checksum, "files": dict(files)}
    table = table.replace_schema_metadata({_METADATA: json.dumps(facts).encode()})
    with replacing(part_path(store, shard)) as temporary:
        pq.write_table(table, temporary)


def read_index(store: Path) -> Index:
    """Every part of a store's index, checked against the sizes of the data files."""
    parts: dict[int, Part] = {}
    damaged: dict[int, str] = {}
    for path in sorted((store / "index").glob("part-*.parquet")):
        shard = int(path.stem.removeprefix("part-"))
        try:
            part = _read_part(path)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            damaged[shard] = f"its index part {path.name} cannot be read ({error})"
            continue
        problem = _missing_data(store, part)
        if problem:
            damaged[shard] = problem
        else:
            parts[shard] = part
    for shard, problem in damaged.items():
        log.warning("%s: shard %d will be computed again: %s", store.name, shard, problem)
    return Index(parts, damaged)


def _read_part(path: Path) -> Part:
    table = read_parquet(path)
    facts = json.loads((table.schema.metadata or {})[_METADATA])
    return Part(facts["shard"], table.replace_schema_metadata(), facts["checksum"], facts["files"])


def _missing_data(store: Path, part: Part) -> str | None:
    for name, size in part.files.items():
        try:
            found = (store / name).stat().st_size
        except FileNotFoundError:
            return f"its data file {name} is missing"
        if found != size:
            return f"its data file {name} has {found} bytes instead of {size}"
    return None
