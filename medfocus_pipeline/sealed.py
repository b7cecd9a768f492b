"""Files of the cache that tell whether they are what was written: sealed Parquet and JSON.

A seal is the SHA-256 of whom the file belongs to and of its content. A file that was read and is
not what was written raises `DamagedError`; one that could not be read raises `AccessError`, and
nobody may take that for damage. What pyarrow and json raise on content ends here.
"""

import hashlib
import io
import json
import os
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from medfocus_pipeline.errors import AccessError, DamagedError
from medfocus_pipeline.files import put, write_text
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.types import JSON

SEAL = "sha256"
"""Key of the seal in a JSON file."""

_SEAL = b"medfocus.sha256"
_OPEN = b"0" * 64
_MARK = _SEAL + b"\x18\x40"
"""What stands before the seal in a Parquet footer: its key, then Thrift's "text of 64 bytes"."""

_FOOTER = struct.Struct("<I4s")
"""The end of a Parquet file: how long the footer before it is, and what kind of file it is."""

_BLOCK, _PAGES = 1 << 20, 1 << 16
"""Bytes that are read at a time, of a file and of each of a table's columns."""


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        DamagedError: there is no such file.
        AccessError: it cannot be read now.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DamagedError(f"{path} is missing") from error
    except OSError as error:
        raise no_access(path, error) from error


def read_all(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The content of several files below a folder; of an object store at a time.

    Raises:
        DamagedError: one is not there.
        AccessError: one cannot be read now.
    """
    if not isinstance(folder, ObjectPath):
        return {name: read_bytes(folder / name) for name in names}
    try:
        return folder.read_all(names)
    except FileNotFoundError as error:
        raise DamagedError(f"{error.filename} is missing") from error
    except OSError as error:
        raise no_access(folder, error) from error


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file that is read bit by bit.

    Raises:
        DamagedError: there is no such file.
        AccessError: it cannot be read now.
    """
    try:
        with path.open("rb") as file:
            yield file
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DamagedError(f"{path} is missing") from error
    except OSError as error:
        raise no_access(path, error) from error


def present(path: Path) -> bool:
    """Whether there is such a file or folder.

    Raises:
        AccessError: that cannot be told now; `Path.exists` raises an `OSError`.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise no_access(path, error) from error
    return True


def no_access(path: Path, error: OSError) -> AccessError:
    """What to say of a file that the system does not let one read."""
    return AccessError(
        f"{path} cannot be read now: {error.strerror or error}. It may be whole, so nothing was "
        "changed: see to the right to read it, or to the disk, then run the same command again."
    )


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
    content[place : place + len(_OPEN)] = _seal(content, owner)
    put(path, content)


def read_table(path: Path, *, owner: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A sealed Parquet file without its seal.

    Args:
        columns: to return; the seal is that of all. None is all of them.

    Raises:
        DamagedError: it is missing, was changed, or belongs to something else.
        AccessError: it cannot be read now.
    """
    with _opened(path) as file:
        _check_seal(path, file, owner)
        try:
            with pq.ParquetFile(file, page_checksum_verification=True, buffer_size=_PAGES) as found:
                table = found.read(columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno:  # the system's, not pyarrow's
                raise
            raise DamagedError(f"{path} is no Parquet file that can be read: {error}") from error
    metadata = {key: text for key, text in (table.schema.metadata or {}).items() if key != _SEAL}
    return table.replace_schema_metadata(metadata or None)


def write_json(path: Path, value: JSON, *, owner: str, free: Collection[str] = ()) -> None:
    """Write a JSON object with a seal, whole or not at all; an equal file is left alone.

    Args:
        free: keys that anyone may change: the seal leaves them out.

    Raises:
        OSError: the disk is full or does not let itself be written to.
    """
    sealed = {**value, SEAL: _json_seal(value, owner, free)}
    write_text(path, json.dumps(sealed, indent=2) + "\n")


def read_json(path: Path, *, owner: str, free: Collection[str] = ()) -> JSON:
    """A sealed JSON object, without its seal; `free` as it was written with.

    Raises:
        DamagedError: it is missing, was changed, or belongs to something else.
        AccessError: it cannot be read now.
    """
    value = parse_json(path)
    if not isinstance(value, dict) or SEAL not in value:
        raise DamagedError(f"{path} has no seal: it was changed, or is of another version")
    seal = value.pop(SEAL)
    if _json_seal(value, owner, free) != seal:
        raise DamagedError(f"{path} is not what was written there: its content was changed")
    return value


def parse_json(path: Path, content: bytes | None = None) -> Any:
    """What a JSON file says, sealed or not.

    Args:
        content: of the file, if it was read.

    Raises:
        DamagedError: it is missing or no JSON.
        AccessError: it cannot be read now.
    """
    try:
        return json.loads(read_bytes(path) if content is None else content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is no JSON that can be read: {error}") from error


def canonical_json(value: object) -> bytes:
    """One spelling for equal values: sorted keys, no spaces, ASCII.

    Raises:
        ValueError: the value holds NaN or an infinity, which JSON cannot spell.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def _json_seal(value: JSON, owner: str, free: Collection[str]) -> str:
    bound = {name: one for name, one in value.items() if name not in free}
    return _seal(canonical_json(bound), owner).decode()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def _seal(content: bytes | memoryview, owner: str) -> bytes:
    seal = hashlib.sha256(owner.encode() + b"\n")
    seal.update(content)
    return seal.hexdigest().encode()


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
