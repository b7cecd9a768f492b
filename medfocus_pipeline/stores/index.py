"""The index of a store: which rows are done. Parquet only, so that asking is cheap.

A part is written after its shard's data and renamed into place: a reader that trusts
parts only never sees half a shard. A part also remembers the size of every file of its
shard, so that a truncated or deleted one is found by ``stat`` alone, and its SHA-256. It is
sealed with the store's key and its shard: that of another store or shard is damage.
"""

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from medfocus_pipeline.errors import DamagedError
from medfocus_pipeline.sealed import no_access, read_table, write_table
from medfocus_pipeline.types import JSON

log = logging.getLogger(__name__)

_METADATA = b"medfocus"
_PART = re.compile(r"part-([0-9]{6,})\.parquet")
_CHUNK = re.compile(r"data\.zarr/[A-Za-z0-9_]+/c(/[0-9]+)+")


class Content(NamedTuple):
    """Of a data file: its size in bytes, and the SHA-256 of its bytes."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Part:
    """One index part: the rows of one shard.

    Attributes:
        shard: number of the shard, its place along the arrays' first dimension.
        table: ``image_id``, ``shard``, ``row`` (in the array) and the stage's own columns.
        files: path in the store -> what it holds, of every data file of the shard.
    """

    shard: int
    table: pa.Table
    files: dict[str, Content]

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
    key: str,
    image_ids: Sequence[str],
    first_row: int,
    columns: Mapping[str, pa.Array],
    files: Mapping[str, Content],
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
    facts: JSON = {"shard": shard, "files": {name: list(one) for name, one in files.items()}}
    table = table.replace_schema_metadata({_METADATA: json.dumps(facts).encode()})
    write_table(part_path(store, shard), table, owner=_owner(key, shard))


def read_index(store: Path, *, key: str) -> Index:
    """Every part of a store's index, checked against its seal and the sizes of the data files.

    Args:
        key: of the store.

    Raises:
        AccessError: something cannot be read now; what was computed may all be there.
    """
    parts: dict[int, Part] = {}
    damaged: dict[int, str] = {}
    root = store.resolve()
    for shard in _shards(store):
        try:
            part = _read_part(part_path(store, shard), key, shard)
            _check_data(root, part)
        except (DamagedError, ValueError, KeyError, TypeError) as error:
            damaged[shard] = str(error)
        else:
            parts[shard] = part
    for shard, problem in damaged.items():
        log.warning("%s: shard %d will be computed again: %s", store.name, shard, problem)
    return Index(parts, damaged)


def _shards(store: Path) -> list[int]:
    """Numbers of the shards that have a part, ascending."""
    folder = store / "index"
    try:
        names = os.listdir(folder)  # noqa: PTH208 - iterdir makes a path of each
    except FileNotFoundError:
        return []
    except OSError as error:
        raise no_access(folder, error) from error
    return sorted(int(found[1]) for name in names if (found := _PART.fullmatch(name)))


def _owner(key: str, shard: int) -> str:
    return f"{key}/{shard}"


def _read_part(path: Path, key: str, shard: int) -> Part:
    table = read_table(path, owner=_owner(key, shard))
    facts = json.loads((table.schema.metadata or {})[_METADATA])
    files = {name: Content(*one) for name, one in facts["files"].items()}
    return Part(facts["shard"], table.replace_schema_metadata(), files)


def _check_data(root: Path, part: Part) -> None:
    """The one place where paths that a store names are checked: none leaves it.

    Args:
        root: of the store, without symbolic links.
    """
    for name, content in part.files.items():
        path = root / name
        if not _CHUNK.fullmatch(name) or not path.resolve().is_relative_to(root):
            raise DamagedError(f"its index part names {name!r}, which is outside the store's data")
        try:
            found = path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            raise DamagedError(f"its data file {name} is missing") from None
        except OSError as error:
            raise no_access(path, error) from error
        if found != content.size:
            raise DamagedError(f"its data file {name} has {found} bytes instead of {content.size}")
