"""The files that a CSV's lines name."""

import os
import stat
from array import array
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medfocus_pipeline.columns import (
    blank,
    flags,
    found_at,
    in_rows,
    kept,
    number_array,
    numbers,
    row_array,
)
from medfocus_pipeline.datasets.found import (
    FILES,
    UNREADABLE,
    ImageFile,
    by_column,
    is_missing,
    together,
)
from medfocus_pipeline.datasets.names import file_names, without_endings
from medfocus_pipeline.datasets.tree import LATEST, columns_below, describer
from medfocus_pipeline.types import IntArray

_AT_A_TIME = 10_000


def find_files(root: Path, texts: pa.StringArray) -> tuple[pa.RecordBatch, list[pa.RecordBatch]]:
    """The file that each text means, as `FILES`; one that is not there is refused.

    Args:
        root: the data folder. A path may be absolute inside of it; one that is not there is
            looked for by its name, with or without its ending, below it.

    Returns:
        The files, and all images below the root if it was looked through, as `columns_below`.
    """
    find = _Finder(root)
    files = find.all(texts)
    missing = np.flatnonzero(is_missing(files))
    if not len(missing):
        return files, []
    parts = columns_below(root)
    places, paths = _called(
        files.column("path").take(row_array(missing)), together(parts).column("path")
    )
    order = np.arange(len(files))
    order[missing[places]] = len(files) + np.arange(len(places))
    return together([files, find.all(paths)]).take(row_array(order)), parts


def files_again(root: Path, paths: pa.StringArray) -> pa.RecordBatch:
    """Files that were found before as they are now, as `FILES`; none is refused.

    Args:
        root: the data folder.
        paths: relative to it.
    """
    base = os.path.realpath(root)
    sizes, times = array("q"), array("q")
    for (path,) in in_rows(paths):
        try:
            status = os.stat(f"{base}/{path}")  # noqa: PTH116
            there = stat.S_ISREG(status.st_mode)
        except OSError:
            there = False
        sizes.append(status.st_size if there else 0)
        times.append(min(status.st_mtime_ns, LATEST) if there else -1)
    counts = (number_array(np.frombuffer(one, np.int64)) for one in (sizes, times))
    return pa.record_batch([paths, *counts, blank(len(paths))], schema=FILES)


class _Finder:
    """The file of a path that a line has."""

    def __init__(self, root: Path) -> None:
        self._describe = describer(root)
        self._first = PurePosixPath(root).parts[:1]
        self._tops = root.absolute(), root.resolve()

    def all(self, texts: pa.StringArray) -> pa.RecordBatch:
        """The files of many, as `FILES`."""
        parts = (texts.slice(at, _AT_A_TIME) for at in range(0, len(texts), _AT_A_TIME))
        return together(
            [by_column([self._one(text) for text in part.to_pylist()]) for part in parts]
        )

    def _one(self, text: str) -> ImageFile:
        path = PurePosixPath(text)
        if path.is_absolute() or path.parts[:1] == self._first:
            for top in self._tops:
                path = path.relative_to(top) if path.is_relative_to(top) else path
        name = path.as_posix()
        outside = not text or path.is_absolute() or ".." in path.parts
        file = None if outside else self._describe(name)
        return file or ImageFile(name, 0, 0, UNREADABLE)


def _called(names: pa.StringArray, paths: pa.StringArray) -> tuple[IntArray, pa.StringArray]:
    """Images that alone have a name, or a name and an ending.

    Args:
        names: that are looked for.
        paths: of all images.

    Returns:
        Which of the names these are, and the paths of the images.
    """
    called = file_names(paths)
    bare = without_endings(called)
    shorter = np.flatnonzero(flags(pc.not_equal(called, bare)))
    owners = np.concatenate([np.arange(len(paths)), shorter])
    words = pa.concat_arrays([called, kept(bare, shorter)]).dictionary_encode()
    code_of = numbers(words.indices)
    owner, count = np.zeros(len(words.dictionary), np.int64), np.bincount(code_of)
    owner[code_of] = owners
    codes = found_at(names, words.dictionary)
    alone = np.flatnonzero(codes >= 0)
    alone = alone[count[codes[alone]] == 1]
    return alone, paths.take(row_array(owner[codes[alone]]))
