"""One writing run at a time for a store, and for a data set's results."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.files import disk_errors
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.stores import object_lock

if TYPE_CHECKING:
    from filelock import BaseFileLock

_HOLDER = "lock.json"


@contextmanager
def writing(folder: Path, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the writer's lock of a folder.

    The lock belongs to the process and the operating system drops it when the process
    dies, however it dies. ``lock.json`` beside it only says who holds it. In an object store
    see `object_lock`.

    Args:
        folder: the folder to write in; it is made.
        wait: seconds to wait for another holder before giving up.

    Raises:
        StoreError: another process holds the lock; the message says which.
    """
    me = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if isinstance(folder, ObjectPath):
        with object_lock.holding(folder, me, wait=wait):
            yield
        return
    from filelock import FileLock  # 50 ms that a run with nothing to do is spared

    holder = folder / _HOLDER
    lock = FileLock(folder / ".lock")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _acquire(lock, folder, wait=wait)
    try:
        with disk_errors(folder):
            holder.write_text(json.dumps(me), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def holder_of(folder: Path) -> str | None:
    """Who holds a folder's lock, as it is written there; None where nobody does.

    It is the same text on every machine that sees this very folder, and no other run's.
    """
    if isinstance(folder, ObjectPath):
        return object_lock.holder_text(folder)
    try:
        return (folder / _HOLDER).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _acquire(lock: "BaseFileLock", folder: Path, *, wait: float) -> None:
    from filelock import Timeout

    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise StoreError(
            f"{folder} is being written by {_describe(folder / _HOLDER)}. "
            "Wait for it to end, or stop it, then run the same command again."
        ) from None


def _describe(holder: Path) -> str:
    try:
        who = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
