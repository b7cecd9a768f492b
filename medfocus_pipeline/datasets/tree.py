"""The image files below a folder: found without ever leaving it."""

import os
import stat
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

from medfocus_pipeline.datasets.readers import EXTENSIONS, is_image

SYSTEM_FOLDERS = frozenset(
    (
        *("__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found"),
        *("system volume information", "thumbs.db"),
    )
)
"""Of macOS, Synology, QNAP, Windows and Linux: thumbnails and what was deleted, no images."""

_UNREADABLE = "cannot be read"


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


def find_images(root: Path) -> list[ImageFile]:
    """Every image file below a folder, sorted by path.

    Known by its extension, or else by its first bytes. Hidden files and the folders that systems
    make (`SYSTEM_FOLDERS`) are skipped. Links are followed inside the root only, and no folder
    is entered twice, so that a loop of links ends.
    """
    base = os.path.realpath(root)
    found: list[ImageFile] = []
    entered: set[tuple[int, int]] = set()
    # Folders first: if a folder is also reachable by a link, its own name counts.
    folders, links = deque([""]), deque[str]()
    while folders or links:
        folder = folders.popleft() if folders else links.popleft()
        place = os.path.join(base, folder)  # noqa: PTH118 (names may not be valid Unicode)
        try:
            status = os.stat(place)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            entries = list(os.scandir(place))
        except OSError as error:
            found.append(_refused(folder, f"is a folder that cannot be read: {error.strerror}"))
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(".") or entry.name.casefold() in SYSTEM_FOLDERS:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
            elif entry.is_symlink() and _is_inner_folder(entry.path, base):
                links.append(path)
            elif _is_image(entry, base):
                found += filter(None, [describe(base, path, link=entry.is_symlink())])
    return sorted(found, key=lambda file: file.path)


def other_kinds(root: Path) -> Counter[str]:
    """How many files below a folder are no images, by the ending of their names.

    Hidden files and the folders that systems make are not counted, nor what links lead to.
    """
    known = {file.path for file in find_images(root)}
    kinds: Counter[str] = Counter()
    for folder, inner, names in os.walk(root):
        inner[:] = [
            name
            for name in inner
            if not name.startswith(".") and name.casefold() not in SYSTEM_FOLDERS
        ]
        for name in names:
            path = (Path(folder) / name).relative_to(root).as_posix()
            if not name.startswith(".") and path not in known:
                kinds[Path(name).suffix.lower() or "no ending"] += 1
    return kinds


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
        return _refused(path, f"{_UNREADABLE}: no file's name has a NUL in it")
    if link and not inside(place, base):
        return _refused(path, "is a link that leaves the data folder")
    try:
        status = os.stat(place)  # noqa: PTH116
    except OSError as error:
        return _refused(path, f"{_UNREADABLE}: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return None
    # Times after the year 2262 do not fit the manifest.
    return ImageFile(path, status.st_size, min(status.st_mtime_ns, 2**63 - 1))


def inside(path: str, base: str) -> bool:
    """Whether a path, links resolved, is below the real path `base`."""
    target = os.path.realpath(path)
    return os.path.commonpath([target, base]) == base


def _is_inner_folder(path: str, base: str) -> bool:
    """Whether a link leads to a folder below `base`."""
    return inside(path, base) and os.path.isdir(path)  # noqa: PTH112


def _refused(path: str, why: str) -> ImageFile:
    """A row for a file that is not opened, its name made safe to store."""
    return ImageFile(os.fsencode(path).decode("utf-8", "backslashreplace"), 0, 0, why)


def _is_image(entry: "os.DirEntry[str]", base: str) -> bool:
    """Whether a file counts as an image; a link out of the root does if it may be one."""
    name = entry.name.lower()
    dot = name.rfind(".")  # os.path.splitext, which takes as long as stat does
    suffix = ".nii.gz" if name.endswith(".nii.gz") else name[dot:] if dot > 0 else ""
    if suffix in EXTENSIONS:
        return True
    if entry.is_symlink() and not inside(entry.path, base):
        return os.path.isdir(entry.path) or not suffix  # noqa: PTH112
    # Archives name DICOM files after their UID, IM0001 or 1.2.840.113619.2; phones write .jfif.
    try:
        if not entry.is_file():
            return False
        with open(entry.path, "rb") as file:  # noqa: PTH123
            return is_image(file.read(352))
    except OSError:
        return False
