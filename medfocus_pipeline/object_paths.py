"""What lies in object stores, as paths."""

import fnmatch
import io
import os
import re
import stat
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import PosixPath
from typing import IO, TYPE_CHECKING, Any, NamedTuple, NoReturn
from zlib import crc32

from medfocus_pipeline.object_systems import calling

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_CHANGED = ("LastModified", "last_modified", "updated", "mtime", "created")
_TAGS = ("ETag", "etag", "md5Hash", "content_md5")
"""What file systems of fsspec call an object's time and its version."""


class Object(NamedTuple):
    """What a listing says of an object.

    Attributes:
        name: below the listed prefix, with forward slashes.
        size: in bytes.
        mtime_ns: seconds of its last change; below them bits of its ETag, since two changes of one
            second are told apart by that alone.
    """

    name: str
    size: int
    mtime_ns: int


class ObjectPath(PosixPath):
    """A name in an object store, with those methods of a path that MedFocus uses.

    An object is written whole or not at all, and there are no folders: a prefix is one as long as
    an object lies below it.

    Raises:
        FileNotFoundError: of its methods: there is no such object or bucket.
        PermissionError: the store refuses it.
        ConnectionError: the store cannot be reached, or breaks off.
        OSError: whatever else goes wrong.
    """

    __slots__ = ()

    def __str__(self) -> str:
        """``s3://bucket/key``; below a prefix, the rest of a key."""
        scheme, sign, rest = super().__str__().partition(":/")
        return f"{scheme}://{rest}" if sign else scheme

    def __fspath__(self) -> NoReturn:
        """Refuse to be taken for a file: what the system would open is another one."""
        raise TypeError(f"{self} is no file of this machine")

    @property
    def protocol(self) -> str:
        """``s3`` of ``s3://bucket``."""
        return self.parts[0].removesuffix(":")

    def __truediv__(self, name: str | os.PathLike[str]) -> "ObjectPath":
        """What lies below it under that name."""
        below = super().__truediv__(name)
        return below if isinstance(below, ObjectPath) else ObjectPath(below)

    def __rtruediv__(self, folder: str | os.PathLike[str]) -> "ObjectPath":
        """Itself, whatever the folder: it is absolute."""
        return self

    def is_absolute(self) -> bool:
        """Whether it is an address, and not part of one."""
        return bool(self.parts) and self.parts[0].endswith(":")

    def resolve(self, strict: bool = False) -> "ObjectPath":  # noqa: ARG002 (as pathlib has it)
        """Itself: there are no links."""
        return self

    def absolute(self) -> "ObjectPath":
        """Itself."""
        return self

    def expanduser(self) -> "ObjectPath":
        """Itself."""
        return self

    def is_symlink(self) -> bool:
        """False: there are none."""
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:  # noqa: ARG002
        """Kind, size and time; of a prefix the kind alone."""
        with self._calling() as (system, name):
            info = system.info(name)
        folder = info["type"] == "directory"
        mode, size = (stat.S_IFDIR, 0) if folder else (stat.S_IFREG, info["size"] or 0)
        time = 0 if folder else _time(info)
        return os.stat_result((mode, 0, 0, 1, 0, 0, size, 0, 0, 0), {"st_mtime_ns": time})

    def exists(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002
        """Whether there is such an object or prefix."""
        return self._mode() != 0

    def is_file(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002
        """Whether there is such an object."""
        return stat.S_ISREG(self._mode())

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002
        """Whether there is an object below it."""
        return stat.S_ISDIR(self._mode())

    def _mode(self) -> int:
        try:
            return self.stat().st_mode
        except FileNotFoundError:
            return 0

    def names(self) -> list[str]:
        """Names of what lies directly below it, sorted."""
        with self._calling() as (system, name):
            found = system.ls(name, detail=False)
        return sorted({one.rstrip("/").rpartition("/")[2] for one in found} - {""})

    def iterdir(self) -> Generator["ObjectPath", None, None]:
        """What lies directly below it, sorted."""
        yield from (self / name for name in self.names())

    def objects(self) -> list[Object]:
        """The objects directly below it, sorted; none if there is no such prefix."""
        try:
            with self._calling() as (system, name):
                found = {one["name"]: one for one in system.ls(name, detail=True)}
        except FileNotFoundError:
            return []
        return self._listed({name: one for name, one in found.items() if one["type"] == "file"})

    def below(self) -> list[Object]:
        """Every object below it, sorted, in one listing; none if there is no such prefix."""
        with self._calling() as (system, name):
            found = system.find(name, detail=True)
        return self._listed(found)

    def _listed(self, found: dict[str, dict[str, Any]]) -> list[Object]:
        cut = len("/".join(self.parts[1:])) + 1
        return sorted(
            Object(key.lstrip("/")[cut:], info["size"] or 0, _time(info))
            for key, info in found.items()
            if not key.endswith("/") and len(key.lstrip("/")) > cut  # no "folder" of a console's
        )

    def rglob(self, pattern: str) -> Iterator["ObjectPath"]:  # type: ignore[override]
        """The objects below it whose names fit."""
        names = (one.name for one in self.below())
        return (self / n for n in names if fnmatch.fnmatchcase(n.rpartition("/")[2], pattern))

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:  # type: ignore[override]
        """What fits, in folders as deep as the pattern says."""
        first, _, rest = pattern.partition("/")
        wild = re.search(r"[*?[]", first)
        names = (self.names() if self.is_dir() else []) if wild else [first]
        for one in (self / name for name in names if fnmatch.fnmatchcase(name, first)):
            if rest:
                yield from one.glob(rest)
            elif wild or one.exists():
                yield one

    def open(  # type: ignore[override]
        self,
        mode: str = "r",
        buffering: int = -1,  # noqa: ARG002
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """The object, which is in memory, to be read."""
        if mode.replace("t", "") not in {"r", "rb"}:
            raise io.UnsupportedOperation(f"{self}: objects are written whole, by write_bytes")
        content = io.BytesIO(self.read_bytes())
        return content if "b" in mode else io.TextIOWrapper(content, encoding, errors, newline)

    def read_bytes(self) -> bytes:
        """The whole object."""
        with self._calling() as (system, name):
            content: bytes = system.cat_file(name)
            return content

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """Objects below it, asked for at a time."""
        with self._calling() as (system, name):
            paths = [f"{name}/{one}" for one in names]
            whole = [None] * len(paths)
            found = system.cat_ranges(paths, whole, whole, on_error="return") if paths else []
        contents = dict(zip(names, found, strict=True))
        for one, content in contents.items():
            if isinstance(content, Exception):
                with (self / one)._calling():
                    raise content
        return contents

    def heads(self, names: Sequence[str], size: int) -> list[bytes]:
        """The first bytes of many objects below it, read at a time; of one that is gone, none."""
        if not names:
            return []
        with self._calling() as (system, name):
            paths = [f"{name}/{one}" for one in names]
            found = system.cat_ranges(
                paths, [0] * len(paths), [size] * len(paths), on_error="return"
            )
        return [one if isinstance(one, bytes) else b"" for one in found]

    def write_bytes(self, data: Any) -> int:
        """Put the object, over one that is there."""
        with self._calling() as (system, name):
            system.pipe_file(name, bytes(data))
        return len(data)

    def write_text(  # type: ignore[override]
        self, data: str, encoding: str | None = None, errors: str | None = None
    ) -> int:
        """The same of a text."""
        return self.write_bytes(data.encode(encoding or "utf-8", errors or "strict"))

    def create(self, data: bytes) -> None:
        """Put an object that must not be there: of two processes one succeeds.

        Raises:
            FileExistsError: it is there.
        """
        with self._calling() as (system, name):
            system.pipe_file(name, data, mode="create")

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: what is put makes its prefix."""

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object."""
        try:
            with self._calling() as (system, name):
                system.rm_file(name)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_below(self) -> None:
        """Remove every object below it."""
        with self._calling() as (system, name):
            system.rm(name, recursive=True)

    def _calling(self) -> AbstractContextManager[tuple["AbstractFileSystem", str]]:
        return calling(self.protocol, "/".join(self.parts[1:]))


def _time(info: dict[str, Any]) -> int:
    changed = next((info[name] for name in _CHANGED if info.get(name) is not None), 0)
    if isinstance(changed, str):
        changed = datetime.fromisoformat(changed)
    seconds = changed.timestamp() if isinstance(changed, datetime) else changed
    tag = next((info[name] for name in _TAGS if info.get(name)), "")
    return int(seconds) * 10**9 + crc32(str(tag).encode()) % 10**9
