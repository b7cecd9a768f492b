"""Index parts: the rows of one shard, declared done in a file of their own.

A part is written after its shard's data and renamed into place: a reader that trusts
parts only never sees half a shard. A part also remembers the size of every file of its
shard, so that a truncated or deleted one is found by ``stat`` alone, and its SHA-256. It is
sealed with the store's key and its shard: that of another store or shard is damage.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from medfocus_pipeline.errors import DamagedError
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.sealed import no_access, read_all
from medfocus_pipeline.sealed_tables import read_table, write_table
from medfocus_pipeline.types import JSON

METADATA = b"medfocus"
"""Key of what a part or a segment says beside its rows, in JSON."""

_CHUNK = re.compile(r"data\.zarr/[A-Za-z0-9_]+/c(/[0-9]+)+")


class Content(NamedTuple):
    """Of a data file: its size in bytes, and the SHA-256 of its bytes."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one shard.

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


def part_path(store: Path, shard: int) -> Path:
    """Where the index part of a shard is, or was before it went into a segment."""
    return store / "index" / f"part-{shard:06d}.parquet"


def write_part(
    store: Path,
    shard: int,
    *,
    key: str,
    image_ids: Sequence[str],
    first_row: int,
    columns: Mapping[str, pa.Array],
    files: dict[str, Content],
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
    facts: JSON = {"shard": shard, "files": files}
    table = table.replace_schema_metadata({METADATA: json.dumps(facts).encode()})
    write_table(part_path(store, shard), table, owner=_owner(key, shard))


def read_part(store: Path, shard: int, *, key: str, columns: Sequence[str] | None = None) -> Part:
    """One part, its seal compared.

    Args:
        columns: of the table; None is all of them.

    Raises:
        DamagedError: it is missing or was changed.
        AccessError: it cannot be read now.
    """
    table = read_table(part_path(store, shard), owner=_owner(key, shard), columns=columns)
    facts = json.loads((table.schema.metadata or {})[METADATA])
    return Part(facts["shard"], table.replace_schema_metadata(), contents(facts["files"]))


def contents(files: Mapping[str, Sequence[object]]) -> dict[str, Content]:
    """What JSON says of data files."""
    return {name: Content(*one) for name, one in files.items()}  # type: ignore[arg-type]


def _owner(key: str, shard: int) -> str:
    return f"{key}/{shard}"


def checked(store: Path, part: Part) -> dict[str, bytes]:
    """The bytes of a part's data files.

    Raises:
        DamagedError: they are not what was written.
        AccessError: one cannot be read now.
    """
    found = read_all(store, list(part.files))
    for name, content in part.files.items():
        if hashlib.sha256(found[name]).hexdigest() != content.sha256:
            raise DamagedError(f"{name} is not what was written there")
    return found


class DataFiles:
    """The one place where paths that a store names are checked: none leaves it.

    Args:
        store: its folder.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._root = str(store) if isinstance(store, ObjectPath) else os.path.realpath(store)
        self._plain: set[str] = set()
        self._listed: dict[str, int] | None = None

    def check(self, part: Part) -> None:
        """Compare the sizes of a part's data files.

        Raises:
            DamagedError: one is missing, of another size, or outside the store's data.
            AccessError: one cannot be looked at now.
        """
        for name, content in part.files.items():
            if not _CHUNK.fullmatch(name):
                raise _outside(name)
            try:
                found = self._size(name)
            except (FileNotFoundError, NotADirectoryError):
                raise DamagedError(f"its data file {name} is missing") from None
            except OSError as error:
                raise no_access(self._store / name, error) from error
            if found != content.size:
                raise DamagedError(
                    f"its data file {name} has {found} bytes instead of {content.size}"
                )

    def _size(self, name: str) -> int:
        """Bytes of a file; a path without a link is not resolved, which takes longest."""
        if isinstance(self._store, ObjectPath):
            return self._size_of_object(self._store, name)
        path = f"{self._root}/{name}"
        folder = name.rpartition("/")[0]
        status = os.lstat(path)
        if self._is_plain(folder) and not stat.S_ISLNK(status.st_mode):
            return status.st_size
        real = os.path.realpath(path)
        if not real.startswith(self._root + os.sep):
            raise _outside(name)
        return os.stat(real).st_size  # noqa: PTH116

    def _size_of_object(self, store: ObjectPath, name: str) -> int:
        """Bytes of an object: all are listed at once; one that was put since is asked for."""
        if self._listed is None:
            self._listed = {
                f"data.zarr/{one.name}": one.size for one in (store / "data.zarr").below()
            }
        size = self._listed.get(name)
        return (store / name).stat().st_size if size is None else size

    def _is_plain(self, folder: str) -> bool:
        """Whether a folder of the store is reached without a link."""
        if not folder or folder in self._plain:
            return True
        if not self._is_plain(folder.rpartition("/")[0]):
            return False
        if stat.S_ISLNK(os.lstat(f"{self._root}/{folder}").st_mode):
            return False
        self._plain.add(folder)
        return True


def _outside(name: str) -> DamagedError:
    return DamagedError(f"its index part names {name!r}, which is outside the store's data")
