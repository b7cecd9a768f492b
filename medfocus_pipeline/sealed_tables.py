"""Sealed Parquet files, whole or by the column; see `sealed`. What pyarrow raises ends here."""

import hashlib
import io
import os
import struct
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from medfocus_pipeline.errors import DamagedError
from medfocus_pipeline.files import put
from medfocus_pipeline.sealed import no_access, reading, seal_of

_SEAL = b"medfocus.sha256"
_OPEN = b"0" * 64
_MARK = _SEAL + b"\x18\x40"
"""What stands before the seal in a Parquet footer: its key, then Thrift's "text of 64 bytes"."""

_FOOTER = struct.Struct("<I4s")
"""The end of a Parquet file: how long the footer before it is, and what kind of file it is."""

_BLOCK, _PAGES = 1 << 20, 1 << 16
"""Bytes that are read at a time, of a file and of each of a table's columns."""


def write_table(path: Path, table: pa.Table, *, owner: str) -> None:
    """Write a Parquet file with page checksums and a seal, whole or not at all.

    Args:
        owner: what the file belongs to, e.g. the key of its store; `read_table` asks for it.

    Raises:
        OSError: the disk is full or does not let itself be written to.
    """
    file = io.BytesIO()
    with pq.ParquetWriter(file, table.schema, write_page_checksum=True) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_SEAL: _OPEN})
    content = file.getbuffer()
    length, _ = _FOOTER.unpack(content[-_FOOTER.size :])
    start = len(content) - _FOOTER.size - length
    place = start + bytes(content[start:]).rindex(_MARK) + len(_MARK)
    content[place : place + len(_OPEN)] = seal_of(content, owner)
    put(path, content)


def read_table(path: Path, *, owner: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A sealed Parquet file without its seal.

    Args:
        columns: to return; the seal is that of all. None is all of them.

    Raises:
        DamagedError: it is missing, was changed, or belongs to something else.
        AccessError: it cannot be read now.
    """
    with reading(path) as file:
        return _Parquet(path, file, owner).read(columns)


class SealedTable:
    """A sealed Parquet file whose columns are read when they are first asked for, then kept.

    It is the file of the time when it was opened, whatever takes its place later.

    Args:
        path: of the file.
        owner: see `read_table`.

    Raises:
        DamagedError: it is missing, was changed, or belongs to something else.
        AccessError: it cannot be read now.
    """

    def __init__(self, path: Path, *, owner: str) -> None:
        with ExitStack() as stack:
            self._parquet = _Parquet(path, stack.enter_context(reading(path)), owner)
            weakref.finalize(self, stack.pop_all().close)
        self._columns: dict[str, pa.ChunkedArray] = {}
        self._lock = Lock()

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self._parquet.num_rows

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns, with the metadata."""
        return self._parquet.schema

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        """One column."""
        with self._lock:
            if name not in self._columns:
                self._columns[name] = self._parquet.read([name])[name]
            return self._columns[name]

    def whole(self) -> pa.Table:
        """All columns."""
        return pa.table([self[name] for name in self.schema.names], schema=self.schema)


class _Parquet:
    """An open sealed Parquet file; what pyarrow raises on its content is a `DamagedError`."""

    def __init__(self, path: Path, file: BinaryIO, owner: str) -> None:
        _check_seal(path, file, owner)
        self._path = path
        with self._refusing():
            self._file = pq.ParquetFile(
                file, page_checksum_verification=True, buffer_size=_PAGES, pre_buffer=False
            )
            self.schema = _unsealed(self._file.schema_arrow)
        self.num_rows = int(self._file.metadata.num_rows)

    def read(self, columns: Sequence[str] | None) -> pa.Table:
        """Some columns, or all."""
        with self._refusing():
            table = self._file.read(columns=columns, use_threads=False)
        return table.replace_schema_metadata(_unsealed(table.schema).metadata)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno:  # the system's, not pyarrow's
                raise no_access(self._path, error) from error
            raise DamagedError(
                f"{self._path} is no Parquet file that can be read: {error}"
            ) from error


def _unsealed(schema: pa.Schema) -> pa.Schema:
    metadata = {key: text for key, text in (schema.metadata or {}).items() if key != _SEAL}
    return schema.with_metadata(metadata or None)


def _check_seal(path: Path, file: BinaryIO, owner: str) -> None:
    """Compare a Parquet file with its seal, without holding it.

    Raises:
        DamagedError: it has none, or was changed.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _FOOTER.size))
    length, magic = _FOOTER.unpack(file.read().rjust(_FOOTER.size, b"\0"))
    start = size - _FOOTER.size - length
    footer = b""
    if magic == b"PAR1" and start >= 0:
        file.seek(start)
        footer = file.read()
    place = footer.rfind(_MARK) + len(_MARK)
    if place < len(_MARK):
        raise DamagedError(f"{path} has no seal: it was changed, or is of another version")
    seal = footer[place : place + len(_OPEN)]
    found = hashlib.sha256(owner.encode() + b"\n")
    file.seek(0)
    for first in range(0, start, _BLOCK):
        found.update(file.read(min(_BLOCK, start - first)))
    found.update(footer[:place] + _OPEN + footer[place + len(seal) :])
    if found.hexdigest().encode() != seal:
        raise DamagedError(f"{path} is not what was written there: its content was changed")
    file.seek(0)
