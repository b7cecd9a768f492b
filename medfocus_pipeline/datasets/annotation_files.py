"""The files that hold the annotation masks of images."""

import fnmatch
import glob
import os
from bisect import bisect_left
from functools import cache
from itertools import takewhile
from pathlib import Path, PurePosixPath

from medfocus_pipeline.datasets.card import Card
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.places import names_in


class AnnotationFiles:
    """Finds the masks of one image after the other; a folder is listed once.

    Args:
        root: the data folder.
        card: of the data set; without an annotation pattern there are none.
    """

    def __init__(self, root: Path, card: Card) -> None:
        self._base = root.resolve()
        self._pattern = PurePosixPath(card.annotation) if card.annotation else None
        self._names = cache(_names)

    def of(self, path: str) -> list[Path]:
        """The masks of an image, sorted; often one, sometimes none.

        Args:
            path: of the image, relative to the root, as in the manifest.
        """
        if self._pattern is None:
            return []
        image = PurePosixPath(path)
        folder, names = self._names(self._base, str(image.parent / self._pattern.parent))
        stem = image.name.removesuffix(".gz").rpartition(".")[0] or image.name
        before, _, _ = self._pattern.name.partition("{stem}")
        if not glob.has_magic(before):  # those that begin so follow one another
            first = before + stem
            start = bisect_left(names, first)
            names = list(takewhile(lambda name: name.startswith(first), names[start:]))
        wanted = self._pattern.name.replace("{stem}", glob.escape(stem))
        masks = [name for name in names if fnmatch.fnmatchcase(name, wanted)]
        return [folder / name for name in masks if self._is_inside(folder / name)]

    def _is_inside(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self._base)


def _names(base: Path, below: str) -> tuple[Path, list[str]]:
    """A folder and the names in it, sorted; none of one outside the base."""
    folder = _resolved(base / below)
    if not folder.is_dir() or not folder.is_relative_to(base):
        return folder, []
    return folder, sorted(names_in(folder))


def _resolved(path: Path) -> Path:
    """A path without links, and without ``..`` where there are none."""
    if isinstance(path, ObjectPath):
        return ObjectPath(os.path.normpath("/".join(path.parts)))
    return path.resolve()
