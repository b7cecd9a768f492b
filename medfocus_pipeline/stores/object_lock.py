"""The writer's lock in an object store, where no system drops it when its process dies.

Locks are numbered, and the one of the highest number counts. The next is made by a conditional put,
of which one process succeeds; the highest is never removed, so that a slow process that makes an
earlier one finds a later one there. The holder puts its lock again and again: one that was not
heard of for `EXPIRES` seconds is dead, and so is one whose process this machine no longer has.
"""

import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.files import disk_errors, is_running
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.types import JSON

log = logging.getLogger(__name__)

BEAT = 30.0
"""Seconds between two signs of life."""

EXPIRES = 300.0
"""Seconds without one; the clocks of machines differ by less."""

_CONDITIONAL = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
"""Protocols of file systems that put conditionally (pull requests 917 of s3fs, 651 of gcsfs, 491 of
adlfs); others look first and then write."""

_NAME = re.compile(r"lock-[0-9]{6}\.json")
_RELEASED = b'{"released": true}'


class _Lock(NamedTuple):
    """The highest lock of a folder; number 0 stands for none."""

    number: int
    text: str
    heard: float

    @property
    def told(self) -> JSON:
        """What its holder says of itself."""
        try:
            told = json.loads(self.text)
        except ValueError:
            return {}
        return told if isinstance(told, dict) else {}

    @property
    def free(self) -> bool:
        """Whether nobody holds it any more."""
        told = self.told
        if not self.number or told.get("released"):
            return True
        if told.get("machine") == _machine() and isinstance(told.get("pid"), int):
            return not is_running(told["pid"])
        return time.time() - self.heard > EXPIRES


@contextmanager
def holding(folder: ObjectPath, me: JSON, *, wait: float = 0.0) -> Iterator[None]:
    """Hold the writer's lock of a prefix; see `lock.writing`.

    Args:
        me: what is said of this process.

    Raises:
        StoreError: another process holds it, or took it because this one was not heard of; or
            there is no writing there.
    """
    if folder.protocol not in _CONDITIONAL:
        raise _unconditional(folder)
    text = json.dumps({**me, "machine": _machine()}).encode()
    with disk_errors(folder):
        mine = _acquire(folder, text, wait=wait)
    ended, lost = threading.Event(), threading.Event()
    staying = threading.Thread(target=_stay, args=(mine, text, ended, lost), daemon=True)
    staying.start()
    try:
        yield
    finally:
        ended.set()
        staying.join()
        if not lost.is_set():
            _renew(mine, _RELEASED, lost)
    if lost.is_set():
        raise StoreError(
            f"Another run took over {folder}, because this one was not heard of for "
            f"{EXPIRES:.0f} seconds. Run the same command again; what was finished is kept."
        )


def _stay(mine: ObjectPath, text: bytes, ended: threading.Event, lost: threading.Event) -> None:
    """Give a sign of life every `BEAT` seconds, until it has ended or another run took over."""
    while not ended.wait(BEAT) and not lost.is_set():
        _renew(mine, text, lost)


def _renew(mine: ObjectPath, text: bytes, lost: threading.Event) -> None:
    """Put a lock again, and see whether there is a higher one."""
    try:
        mine.write_bytes(text)
        if max(_locks(mine.parent), default="") > mine.name:
            lost.set()
    except OSError as error:
        log.warning("The lock %s could not be renewed: %s", mine, error.strerror)


def holder_text(folder: ObjectPath) -> str | None:
    """What the holder says of itself; None where nobody holds the lock."""
    lock = _highest(folder)
    return None if lock.free else lock.text


def _acquire(folder: ObjectPath, text: bytes, *, wait: float) -> ObjectPath:
    """Make the next lock."""
    until = time.monotonic() + wait
    while not ((last := _highest(folder)).free and (mine := _next(folder, last.number + 1, text))):
        if time.monotonic() >= until:
            raise _held(folder, _highest(folder))
        time.sleep(0.1)
    return mine


def _next(folder: ObjectPath, number: int, text: bytes) -> ObjectPath | None:
    """Make the lock of a number; None if another process was there first."""
    mine = folder / f"lock-{number:06d}.json"
    try:
        mine.create(text)
    except FileExistsError:
        return None
    _check_conditional(mine, text)
    names = _locks(folder)
    if max(names) > mine.name:
        mine.unlink(missing_ok=True)
        return None
    for lower in names - {mine.name}:
        (folder / lower).unlink(missing_ok=True)
    return mine


def _check_conditional(path: ObjectPath, text: bytes) -> None:
    """Refuse a store that takes an object which must not be there, though it is.

    Raises:
        StoreError: it does.
    """
    try:
        path.create(text)
    except FileExistsError:
        return
    path.unlink(missing_ok=True)
    raise _unconditional(path.parent)


def _unconditional(folder: ObjectPath) -> StoreError:
    return StoreError(
        f"{folder} is in an object store that does not refuse an object that is there (no "
        "conditional put, If-None-Match), so that two runs would not see each other. Keep the "
        "cache in a folder, or in one that does: S3, MinIO, Google Cloud Storage, Azure."
    )


def _highest(folder: ObjectPath) -> _Lock:
    name = max(_locks(folder), default=None)
    if name is None:
        return _Lock(0, "", 0.0)
    try:
        text = (folder / name).read_bytes().decode("utf-8", "replace")
        heard = (folder / name).stat().st_mtime_ns / 10**9
    except FileNotFoundError:  # a higher one took its place
        return _highest(folder)
    return _Lock(int(name.removeprefix("lock-").removesuffix(".json")), text, heard)


def _locks(folder: ObjectPath) -> set[str]:
    """Names of the locks of a folder; they sort as their numbers do."""
    return {one.name for one in folder.objects() if _NAME.fullmatch(one.name)}


def _held(folder: ObjectPath, lock: _Lock) -> StoreError:
    told = lock.told
    who = "another process"
    if {"pid", "host", "since"} <= set(told):
        who = f"process {told['pid']} on {told['host']} since {told['since']}"
    ago = max(0, round(time.time() - lock.heard))
    return StoreError(
        f"{folder} is being written by {who}, last heard of {ago} seconds ago. Wait for it to end, "
        "or stop it, then run the same command again; if it was killed, its lock ends "
        f"{EXPIRES:.0f} seconds after it was last heard of."
    )


def _machine() -> str:
    """What tells this machine, since it started, from others; a container is one of its own."""
    facts = [os.uname().nodename]
    for path in (Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")):
        try:
            facts.append(str(path.readlink()) if path.is_symlink() else path.read_text().strip())
        except OSError:
            facts.append("")  # no Linux
    return " ".join(facts)
