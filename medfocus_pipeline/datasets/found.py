"""What is found below a data folder, wherever that is: image files, and what else lies there."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from medfocus_pipeline.columns import id_array, number_array, which_are, whole

SYSTEM_FOLDERS = frozenset(
    (
        *("__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found"),
        *("system volume information", "thumbs.db"),
    )
)
"""Of macOS, Synology, QNAP, Windows and Linux: thumbnails and what was deleted, no images."""

UNREADABLE = "cannot be read"
"""Begins what is said of a file that is not there, or not to be opened."""

FILES = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("refused", pa.string(), nullable=False),
    ]
)
"""Image files by the column; see `ImageFile`."""


class ImageFile(NamedTuple):
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


def ending(name: str) -> str:
    """The last suffix in lower case, ``.nii.gz`` whole; empty without one."""
    dot = name.rfind(".")  # os.path.splitext, which takes as long as stat does
    if dot <= 0:
        return ""
    ending = name[dot:].lower()
    return ".nii.gz" if ending == ".gz" and name.lower().endswith(".nii.gz") else ending


def by_column(files: Sequence[ImageFile]) -> pa.RecordBatch:
    """Files as `FILES`."""
    paths, refused = [file.path for file in files], [file.refused for file in files]
    sizes, times = (number_array(np.array([file[n] for file in files], np.int64)) for n in (1, 2))
    return pa.record_batch([id_array(paths), sizes, times, id_array(refused)], schema=FILES)


def together(parts: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """All files of several `FILES`."""
    columns = pa.Table.from_batches(parts, schema=FILES).columns
    return pa.record_batch([whole(column) for column in columns], schema=FILES)


def in_path_order(files: pa.RecordBatch) -> pa.RecordBatch:
    """The files, or what begins with their columns, by path."""
    return files.take(pc.sort_indices(files.column("path")))


def is_missing(files: pa.RecordBatch) -> NDArray[np.bool_]:
    """Which of the files cannot be opened under their names, ``(n,) bool``."""
    return which_are(files.column("refused"), lambda why: why.startswith(UNREADABLE))
