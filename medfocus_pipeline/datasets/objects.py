"""The image files of an object store, from one listing."""

from itertools import groupby

from medfocus_pipeline.datasets.found import SYSTEM_FOLDERS, UNREADABLE, Folder, ImageFile, ending
from medfocus_pipeline.datasets.readers import EXTENSIONS, is_image
from medfocus_pipeline.object_paths import Object, ObjectPath

_HEAD = 352
"""Bytes that tell an image whose name does not."""

_NO_IMAGES = frozenset(
    (".csv", ".gz", ".html", ".json", ".md", ".parquet", ".pdf", ".txt", ".xml", ".yaml", ".zip")
)
"""Endings of what lies beside images; it is not opened to look."""


def list_folders(root: ObjectPath) -> list[Folder]:
    """What lies below a prefix, as `tree.walk` tells it of a folder.

    An object whose name does not say what it is, is an image if its first bytes are one's.

    Raises:
        OSError: the store cannot be reached, or refuses it.
    """
    found = [one for one in root.below() if not _is_hidden(one.name)]
    unknown = [one.name for one in found if ending(one.name) not in EXTENSIONS | _NO_IMAGES]
    heads = dict(zip(unknown, root.heads(unknown, _HEAD), strict=True))
    return [
        _folder(list(own), heads)
        for _, own in groupby(sorted(found, key=_parts), key=lambda one: _parts(one)[:-1])
    ]


class Listing:
    """Looks images up in one listing of a prefix, which is made when it is first asked.

    Args:
        root: the prefix.
    """

    def __init__(self, root: ObjectPath) -> None:
        self._root = root
        self._known: dict[str, Object] | None = None

    def __call__(self, path: str) -> ImageFile:
        """The image of that name below the prefix, or that there is none."""
        if self._known is None:
            self._known = {one.name: one for one in self._root.below()}
        one = self._known.get(path)
        if one is None:
            return ImageFile(path, 0, 0, f"{UNREADABLE}: there is no such object")
        return ImageFile(path, one.size, one.mtime_ns)


def _folder(objects: list[Object], heads: dict[str, bytes]) -> Folder:
    folder = Folder([], [])
    for name, size, mtime_ns in objects:
        if ending(name) in EXTENSIONS or is_image(heads.get(name, b"")):
            folder.files.append(ImageFile(name, size, mtime_ns))
        else:
            folder.others.append(name.rpartition("/")[2])
    return folder


def _parts(one: Object) -> tuple[str, ...]:
    return tuple(one.name.split("/"))


def _is_hidden(name: str) -> bool:
    """Whether an object, or what it lies in, is hidden or a system's own."""
    parts = name.split("/")
    return any(part.startswith(".") or part.casefold() in SYSTEM_FOLDERS for part in parts)
