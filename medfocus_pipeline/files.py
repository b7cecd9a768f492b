"""Files that are whole or absent, whatever happens while they are written."""

import errno
import glob
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from medfocus_pipeline.errors import StoreError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to the yielded temporary path; it becomes `path` if nothing was raised.

    The data is on disk (fsync) before the name is, and the name before this returns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        if is_left_over(leftover):
            leftover.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


def leftovers(folder: Path) -> list[Path]:
    """Partial files anywhere in a folder whose writer is dead, in order of name."""
    return sorted(path for path in folder.rglob(".*.partial") if is_left_over(path))


def is_left_over(path: Path) -> bool:
    """Whether the process that a partial file is named after is dead."""
    number = path.name.split(".")[-2]
    if not number.isdecimal() or int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False  # another user's
    return False


def write_text(path: Path, text: str) -> None:
    """The same as `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; one that has the content already is left alone.

    A shared cache may be read-only, and a command with nothing to do writes nothing.
    """
    if path.exists() and path.read_bytes() == content:
        return
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def flush(path: Path) -> None:
    """Ask the disk for a file's data, or for a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full or read-only disk, or a wrong place, into one sentence.

    Raises:
        StoreError: any `OSError`.
    """
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full: free some space",
            errno.EDQUOT: "the disk quota is used up: free some space",
            errno.EROFS: "the disk is read-only: choose another place with --cache",
            errno.EACCES: "there is no right to write: choose another place with --cache",
        }
        other = f"{error.strerror or error}: choose another place with --cache"
        reason = reasons.get(error.errno or 0, other)
        raise StoreError(
            f"Writing in {folder} failed, {reason}, then run the same command again; "
            "what was finished is kept."
        ) from error


def read_parquet(path: Path) -> pa.Table:
    """A small Parquet file, whole.

    `pyarrow.parquet.read_table` would first import all of Arrow's data set machinery.

    Raises:
        OSError: the file cannot be read.
        pyarrow.ArrowException: it is no Parquet file, or damaged.
    """
    with pq.ParquetFile(path, memory_map=False) as file:
        return file.read(use_threads=False)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
