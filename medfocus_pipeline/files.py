"""Files that are whole or absent, whatever happens while they are written."""

import errno
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from medfocus_pipeline.errors import ConfigError, StoreError
from medfocus_pipeline.object_paths import ObjectPath

MARK = ".medfocus"
"""File of a folder outside the cache: the names of what MedFocus wrote there, one a line."""


_ELSEWHERE = "choose another place with --cache"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to the yielded temporary path; it becomes `path` if nothing was raised.

    The data is on disk (fsync) before the name is, and the name before this returns. An object is
    written here and then put.
    """
    if isinstance(path, ObjectPath):
        with tempfile.TemporaryDirectory(prefix="medfocus-object-") as folder:
            yield Path(folder, path.name)
            path.write_bytes(Path(folder, path.name).read_bytes())
        return
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
    return number.isdecimal() and not is_running(int(number))


def is_running(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # another user's
    return True


def write_text(path: Path, text: str) -> None:
    """The same as `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; one that has the content already is left alone.

    A shared cache may be read-only, and a command with nothing to do writes nothing.
    """
    if path.exists() and path.read_bytes() == content:
        return
    put(path, content)


def put(path: Path, content: bytes | memoryview) -> None:
    """Write a file or an object whole or not at all, over one that is there."""
    if isinstance(path, ObjectPath):
        path.write_bytes(content)
        return
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def remove_tree(folder: Path) -> None:
    """Remove a folder with all that is in it."""
    if isinstance(folder, ObjectPath):
        folder.remove_below()
    else:
        shutil.rmtree(folder)


def claim(folder: Path, names: Iterable[str], *, inputs: Iterable[Path] = ()) -> None:
    """Make a folder outside the cache ours to write in: the one rule for all that do.

    What is to be written is noted in `MARK` first, so that the next run, also after a kill,
    knows its own files. Everything else in the folder is somebody's.

    Args:
        folder: new, empty, or one that holds nothing but what MedFocus wrote.
        names: of the files to be written, relative to it, with forward slashes.
        inputs: files that are read; none may lie in the folder.

    Raises:
        ConfigError: the folder holds an input or a file that is not ours, or is a file.
        StoreError: the disk is full or read-only.
    """
    advice = "Name a new or empty folder with the same option."
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file, expected a folder to write in. {advice}")
    root = folder.resolve()
    inside = next((path for path in inputs if root in path.resolve().parents), None)
    if inside is not None:
        raise ConfigError(f"{folder} holds {str(inside)!r}, which is to be read. {advice}")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        mark = folder / MARK
        known = (
            set(mark.read_text("utf-8", "surrogateescape").split("\n")) if mark.exists() else set()
        )
        strange = next((name for name in _names(folder) if name not in known), None)
        if strange is not None:
            raise ConfigError(f"{folder} holds {strange!r}, which MedFocus did not write. {advice}")
        listed = "\n".join(sorted({*known, *names} - {""}))
        write_bytes(mark, listed.encode("utf-8", "surrogateescape"))


def _names(folder: Path) -> Iterator[str]:
    """Files below a folder, without the mark and what a killed run left."""
    for path in folder.rglob("*"):
        left_over = path.name.startswith(".") and path.name.endswith(".partial")
        if path != folder / MARK and not left_over and (path.is_symlink() or not path.is_dir()):
            yield path.relative_to(folder).as_posix()


def flush(path: Path) -> None:
    """Ask the disk for a file's data, or for a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full or read-only disk, or a place that is wrong or out of reach, into one sentence.

    Raises:
        StoreError: any `OSError`.
    """
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full: free some space",
            errno.EDQUOT: "the disk quota is used up: free some space",
            errno.EROFS: f"the disk is read-only: {_ELSEWHERE}",
            errno.EACCES: f"there is no right to write: {_ELSEWHERE}",
        }
        again = "see to the network" if isinstance(error, ConnectionError) else _ELSEWHERE
        other = f"{error.strerror or error}: {again}"
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
