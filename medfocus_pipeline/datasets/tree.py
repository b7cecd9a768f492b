"""The image files below a folder: found without ever leaving it."""

import os
import stat
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from medfocus_pipeline.datasets.readers import EXTENSIONS, is_image

SYSTEM_FOLDERS = frozenset(
    (
        *("__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found"),
        *("system volume information", "thumbs.db"),
    )
)
"""Of macOS, Synology, QNAP, Windows and Linux: thumbnails and what was deleted, no images."""

_ENDINGS = tuple(sorted(EXTENSIONS))

_UNREADABLE = "cannot be read"

_LATEST = 2**63 - 1
"""Times after the year 2262 do not fit the manifest."""

Found: TypeAlias = tuple[str, int, int, str]
"""The values of an `ImageFile`, of which a scan that finds nothing new makes none."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file that is, or claims to be, an image.

    Attributes:
        path: relative to the root, with forward slashes, valid Unicode.
        bytes: size of the file, 0 if refused.
        mtime_ns: time of its last change, 0 if refused.
        refused: why the file must not be opened; empty when it may be.
    """

    path: str
    bytes: int
    mtime_ns: int
    refused: str = ""

    @property
    def missing(self) -> bool:
        """Whether nothing can be opened under this name."""
        return self.refused.startswith(_UNREADABLE)


@dataclass(frozen=True, slots=True)
class Folder:
    """What lies in one folder, its own folders left out.

    Attributes:
        files: the image files, by name: the values of an `ImageFile` each.
        others: names of the files that are no images; not where a link led to the folder.
    """

    files: list[Found]
    others: list[str]


def walk(root: Path) -> Iterator[Folder]:
    """Every folder with its image files, each folder once and in an order of its own.

    Images are known by their extension, or else by their first bytes. Hidden files and the folders
    that systems make (`SYSTEM_FOLDERS`) are skipped. Links are followed inside the root only, and
    no folder is entered twice, so that a loop of links ends.
    """
    base = os.path.realpath(root)
    entered: set[tuple[int, int]] = set()
    # Folders first: if a folder is also reachable by a link, its own name counts.
    folders, links = deque([""]), deque[str]()
    by_link = False  # the first of them, and all that is found from there
    while folders or links:
        by_link = by_link or not folders
        folder = folders.popleft() if folders else links.popleft()
        place = os.path.join(base, folder)  # noqa: PTH118 (names may not be valid Unicode)
        try:
            handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            yield Folder([_no_folder(folder, error)], [])
            continue
        try:
            status = os.fstat(handle)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            found = _look(base, folder, handle, folders, links)
        except OSError as error:
            found = Folder([_no_folder(folder, error)], [])
        finally:
            os.close(handle)
        yield Folder(found.files, []) if by_link else found


def _look(base: str, folder: str, handle: int, folders: deque[str], links: deque[str]) -> Folder:
    """What lies in an open folder; what is to be entered goes to `folders` and `links`."""
    prefix = f"{folder}/" if folder else ""
    found = Folder([], [])
    for name in sorted(os.listdir(handle)):
        if name[0] == ".":
            continue
        path = prefix + name
        try:  # by the folder's descriptor: the path to it is not looked up each time
            status = os.stat(name, dir_fd=handle, follow_symlinks=False)
        except OSError as error:  # it has gone meanwhile
            if _ending(name) in EXTENSIONS:
                found.files.append(_refused(path, f"{_UNREADABLE}: {error.strerror}"))
            continue
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG and name.endswith(_ENDINGS) and path.isascii():
            found.files.append((path, status.st_size, min(status.st_mtime_ns, _LATEST), ""))
        elif (queue := _to_enter(base, path, kind, folders, links)) is not None:
            if name.casefold() not in SYSTEM_FOLDERS:
                queue.append(path)
        elif one := _image(base, path, kind):
            found.files.append(one)
        else:
            found.others.append(name)
    return found


def _to_enter(
    base: str, path: str, kind: int, folders: deque[str], links: deque[str]
) -> deque[str] | None:
    """Where a folder, or a link to one, waits; None for what is none."""
    if kind == stat.S_IFDIR:
        return folders
    if kind == stat.S_IFLNK and _is_inner_folder(f"{base}/{path}", base):
        return links
    return None


def find_images(root: Path) -> list[ImageFile]:
    """Every image file below a folder, sorted by path; see `walk`."""
    found = [ImageFile(*file) for folder in walk(root) for file in folder.files]
    return sorted(found, key=lambda file: file.path)


def other_kinds(root: Path) -> Counter[str]:
    """How many files below a folder are no images, by the ending of their names.

    Hidden files and the folders that systems make are not counted, nor what links lead to.
    """
    names = (name for folder in walk(root) for name in folder.others)
    return Counter(Path(name).suffix.lower() or "no ending" for name in names)


def describe(base: str, path: str, *, link: bool = True) -> ImageFile | None:
    """One file as it stands on disk, or refused; None for a pipe, socket or device.

    Args:
        base: real path of the root.
        path: relative to it.
        link: the file may be reached by a link; False spares looking where it leads.
    """
    found = _described(base, path, link=link)
    return found and ImageFile(*found)


def _described(base: str, path: str, *, link: bool) -> Found | None:
    place = f"{base}/{path}"
    try:
        path.encode()
    except UnicodeEncodeError:
        return _refused(path, "has a name that is not valid UTF-8; rename it")
    if "\0" in path:
        return _refused(path, f"{_UNREADABLE}: no file's name has a NUL in it")
    if link and not inside(place, base):
        return _refused(path, "is a link that leaves the data folder")
    try:
        status = os.stat(place)  # noqa: PTH116
    except OSError as error:
        return _refused(path, f"{_UNREADABLE}: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return None
    return path, status.st_size, min(status.st_mtime_ns, _LATEST), ""


def inside(path: str, base: str) -> bool:
    """Whether a path, links resolved, is below the real path `base`."""
    target = os.path.realpath(path)
    return os.path.commonpath([target, base]) == base


def _is_inner_folder(path: str, base: str) -> bool:
    """Whether a link leads to a folder below `base`."""
    return inside(path, base) and os.path.isdir(path)  # noqa: PTH112


def _refused(path: str, why: str) -> Found:
    """A row for a file that is not opened, its name made safe to store."""
    return os.fsencode(path).decode("utf-8", "backslashreplace"), 0, 0, why


def _no_folder(path: str, error: OSError) -> Found:
    return _refused(path, f"is a folder that cannot be read: {error.strerror}")


def _ending(name: str) -> str:
    """The last suffix in lower case, ``.nii.gz`` whole; empty without one."""
    dot = name.rfind(".")  # os.path.splitext, which takes as long as stat does
    if dot <= 0:
        return ""
    ending = name[dot:].lower()
    return ".nii.gz" if ending == ".gz" and name.lower().endswith(".nii.gz") else ending


def _image(base: str, path: str, kind: int) -> Found | None:
    """A file that is an image whatever its name, link or characters; None for others."""
    name = path.rpartition("/")[2]
    if name.casefold() in SYSTEM_FOLDERS or not _is_image(base, path, kind):
        return None
    return _described(base, path, link=kind == stat.S_IFLNK)


def _is_image(base: str, path: str, kind: int) -> bool:
    """Whether a file counts as an image; a link out of the root does if it may be one.

    Args:
        kind: of the file itself, as `stat.S_IFMT`.
    """
    place, ending = f"{base}/{path}", _ending(path.rpartition("/")[2])
    if ending in EXTENSIONS:
        return True
    if kind == stat.S_IFLNK and not inside(place, base):
        return os.path.isdir(place) or not ending  # noqa: PTH112
    # Archives name DICOM files after their UID, IM0001 or 1.2.840.113619.2; phones write .jfif.
    try:
        if not os.path.isfile(place):  # noqa: PTH113
            return False
        with open(place, "rb") as file:  # noqa: PTH123
            return is_image(file.read(352))
    except OSError:
        return False
