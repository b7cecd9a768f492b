"""The image files of an object store, from one listing."""

from collections.abc import Callable
from functools import cache
from itertools import groupby

from medfocus_pipeline.datasets.found import SYSTEM_FOLDERS, UNREADABLE, ImageFile, ending
from medfocus_pipeline.datasets.readers import EXTENSIONS, is_image
from medfocus_pipeline.object_paths import Object, ObjectPath

_HEAD = 352
"""Bytes that tell an image whose name does not."""

_NO_IMAGES = frozenset(
    (".csv", ".gz", ".html", ".json", ".md", ".parquet", ".pdf", ".txt", ".xml", ".yaml", ".zip")
)
"""Endings of what lies beside images; it is not opened to look."""


def list_images(root: ObjectPath) -> list[list[ImageFile]]:
    """The images below a prefix, folder by folder.

    An object whose name does not say what it is, is an image if its first bytes are one's.

    Raises:
        OSError: the store cannot be reached, or refuses it.
    """
    images, _ = _told_apart(root)
    images.sort(key=lambda one: one.path.split("/"))
    return [list(own) for _, own in groupby(images, key=lambda one: one.path.rpartition("/")[0])]


def other_names(root: ObjectPath) -> list[str]:
    """Names of the objects below a prefix that are no images; as `list_images`."""
    _, others = _told_apart(root)
    return [one.name.rpartition("/")[2] for one in others]


def _told_apart(root: ObjectPath) -> tuple[list[ImageFile], list[Object]]:
    found = [one for one in root.below() if not _is_hidden(one.name)]
    unknown = [one.name for one in found if ending(one.name) not in EXTENSIONS | _NO_IMAGES]
    heads = dict(zip(unknown, root.heads(unknown, _HEAD), strict=True))
    images, others = [], []
    for one in found:
        if ending(one.name) in EXTENSIONS or is_image(heads.get(one.name, b"")):
            images.append(ImageFile(*one))
        else:
            others.append(one)
    return images, others


def looked_up(root: ObjectPath) -> Callable[[str], ImageFile]:
    """Finds images by their names in one listing of a prefix, made when it is first asked."""

    @cache
    def listed() -> dict[str, ImageFile]:
        return {one.name: ImageFile(*one) for one in root.below()}

    def look_up(path: str) -> ImageFile:
        missing = ImageFile(path, 0, 0, f"{UNREADABLE}: there is no such object")
        return listed().get(path, missing)

    return look_up


def _is_hidden(name: str) -> bool:
    """Whether an object, or what it lies in, is hidden or a system's own."""
    parts = name.split("/")
    return any(part.startswith(".") or part.casefold() in SYSTEM_FOLDERS for part in parts)
