"""The image files below a folder: found without ever leaving it."""

import os
import stat
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa

from medfocus_pipeline.datasets.found import (
    SYSTEM_FOLDERS,
    UNREADABLE,
    ImageFile,
    by_column,
    ending,
)
from medfocus_pipeline.datasets.objects import list_images, looked_up, other_names
from medfocus_pipeline.datasets.readers import EXTENSIONS, is_image
from medfocus_pipeline.object_paths import ObjectPath

_ENDINGS = tuple(sorted(EXTENSIONS))

_AT_A_TIME = 10_000
"""Files of a folder."""

LATEST = 2**63 - 1
"""Times after the year 2262 do not fit the manifest."""


def walk(root: Path) -> Iterable[list[ImageFile]]:
    """The image files of every folder, each file once and in an order of its own.

    One of many files comes in several parts, so that not all of them are held. Of an object store
    it is a list, since the listing takes its time.

    Images are known by their extension, or else by their first bytes. Hidden files and the folders
    that systems make (`SYSTEM_FOLDERS`) are skipped. Links are followed inside the root only, and
    no folder is entered twice, so that a loop of links ends.
    """
    return list_images(root) if isinstance(root, ObjectPath) else _walk(root)


def _walk(root: Path) -> Iterator[list[ImageFile]]:
    base = os.path.realpath(root)
    entered: set[tuple[int, int]] = set()
    # Folders first: if a folder is also reachable by a link, its own name counts.
    folders, links = deque([""]), deque[str]()
    while folders or links:
        folder = folders.popleft() if folders else links.popleft()
        place = os.path.join(base, folder)  # noqa: PTH118 (names may not be valid Unicode)
        try:
            handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            yield [_no_folder(folder, error)]
            continue
        try:
            status = os.fstat(handle)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            yield from _look(base, folder, handle, folders, links)
        except OSError as error:
            yield [_no_folder(folder, error)]
        finally:
            os.close(handle)


def _look(
    base: str, folder: str, handle: int, folders: deque[str], links: deque[str]
) -> Iterator[list[ImageFile]]:
    """Images of an open folder, so many at a time; what is to be entered goes to the queues."""
    prefix = f"{folder}/" if folder else ""
    names = sorted(os.listdir(handle))
    for first in range(0, len(names), _AT_A_TIME):
        found: list[ImageFile] = []
        for name in names[first : first + _AT_A_TIME]:
            if name[0] == ".":
                continue
            path = prefix + name
            try:  # by the folder's descriptor: the path to it is not looked up each time
                status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            except OSError as error:  # it has gone meanwhile
                if ending(name) in EXTENSIONS:
                    found.append(_refused(path, f"{UNREADABLE}: {error.strerror}"))
                continue
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFREG and name.endswith(_ENDINGS) and path.isascii():
                found.append(_plain(path, status))
            elif (queue := _to_enter(base, path, kind, folders, links)) is not None:
                if name.casefold() not in SYSTEM_FOLDERS:
                    queue.append(path)
            elif one := _image(base, path, kind):
                found.append(one)
        yield found


def _to_enter(
    base: str, path: str, kind: int, folders: deque[str], links: deque[str]
) -> deque[str] | None:
    """Where a folder, or a link to one, waits; None for what is none."""
    if kind == stat.S_IFDIR:
        return folders
    if kind == stat.S_IFLNK and _is_inner_folder(f"{base}/{path}", base):
        return links
    return None


def columns_below(root: Path) -> list[pa.RecordBatch]:
    """Every image file below a folder, as `FILES`, in the parts and the order of `walk`."""
    return [by_column(files) for files in walk(root)]


def find_images(root: Path) -> list[ImageFile]:
    """Every image file below a folder, sorted by path; see `walk`."""
    return sorted(file for files in walk(root) for file in files)


def other_kinds(root: Path) -> Counter[str]:
    """How many files below a folder are no images, by the ending of their names.

    Hidden files and the folders that systems make are not counted, nor what links lead to.
    """
    if isinstance(root, ObjectPath):
        names: Iterable[str] = other_names(root)
    else:
        names = _others(os.path.realpath(root))
    return Counter(Path(name).suffix.lower() or "no ending" for name in names)


def _others(base: str) -> Iterator[str]:
    """Names of the files that are no images; most tell by their names and are not looked at."""
    for place, folders, names in os.walk(base):
        folders[:] = [
            name for name in folders if name[0] != "." and name.casefold() not in SYSTEM_FOLDERS
        ]
        for name in names:
            if name[0] == "." or name.endswith(_ENDINGS):
                continue
            path = os.path.join(place, name)  # noqa: PTH118
            try:
                kind = stat.S_IFMT(os.lstat(path).st_mode)
            except OSError:  # it has gone meanwhile
                continue
            if not _image(base, os.path.relpath(path, base), kind):
                yield name


def describer(root: Path) -> Callable[[str], ImageFile | None]:
    """What `describe` says of a path below a folder; of an object store, one listing."""
    if isinstance(root, ObjectPath):
        return looked_up(root)
    return partial(describe, os.path.realpath(root))


def describe(base: str, path: str, *, link: bool = True) -> ImageFile | None:
    """One file as it stands on disk, or refused; None for a pipe, socket or device.

    Args:
        base: real path of the root.
        path: relative to it.
        link: the file may be reached by a link; False spares looking where it leads.
    """
    place = f"{base}/{path}"
    try:
        path.encode()
    except UnicodeEncodeError:
        return _refused(path, "has a name that is not valid UTF-8; rename it")
    if "\0" in path:
        return _refused(path, f"{UNREADABLE}: no file's name has a NUL in it")
    if link and not inside(place, base):
        return _refused(path, "is a link that leaves the data folder")
    try:
        status = os.stat(place)  # noqa: PTH116
    except OSError as error:
        return _refused(path, f"{UNREADABLE}: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return None
    return _plain(path, status)


def _plain(path: str, status: os.stat_result) -> ImageFile:
    """A file that may be opened."""
    return ImageFile(path, status.st_size, min(status.st_mtime_ns, LATEST))


def inside(path: str, base: str) -> bool:
    """Whether a path, links resolved, is below the real path `base`."""
    target = os.path.realpath(path)
    return os.path.commonpath([target, base]) == base


def _is_inner_folder(path: str, base: str) -> bool:
    """Whether a link leads to a folder below `base`."""
    return inside(path, base) and os.path.isdir(path)  # noqa: PTH112


def _refused(path: str, why: str) -> ImageFile:
    """A file that is not opened, its name made safe to store."""
    return ImageFile(os.fsencode(path).decode("utf-8", "backslashreplace"), 0, 0, why)


def _no_folder(path: str, error: OSError) -> ImageFile:
    return _refused(path, f"is a folder that cannot be read: {error.strerror}")


def _image(base: str, path: str, kind: int) -> ImageFile | None:
    """A file that is an image whatever its name, link or characters; None for others."""
    name = path.rpartition("/")[2]
    if name.casefold() in SYSTEM_FOLDERS or not _is_image(base, path, kind):
        return None
    return describe(base, path, link=kind == stat.S_IFLNK)


def _is_image(base: str, path: str, kind: int) -> bool:
    """Whether a file counts as an image; a link out of the root does if it may be one.

    Args:
        kind: of the file itself, as `stat.S_IFMT`.
    """
    place, named = f"{base}/{path}", ending(path.rpartition("/")[2])
    if named in EXTENSIONS:
        return True
    if kind == stat.S_IFLNK and not inside(place, base):
        return os.path.isdir(place) or not named  # noqa: PTH112
    # Archives name DICOM files after their UID, IM0001 or 1.2.840.113619.2; phones write .jfif.
    try:
        if not os.path.isfile(place):  # noqa: PTH113
            return False
        with open(place, "rb") as file:  # noqa: PTH123
            return is_image(file.read(352))
    except OSError:
        return False
