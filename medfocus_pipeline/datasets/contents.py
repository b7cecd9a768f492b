"""What is in the files of a data set: each is hashed and decoded, unless it is as it was."""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medfocus_pipeline.columns import (
    found_at,
    id_array,
    is_empty,
    kept,
    kinds,
    number_array,
    numbers,
    recoded,
    taken,
    which_are,
    whole,
)
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.manifest_columns import ROW
from medfocus_pipeline.datasets.pixels import at_most_two_values
from medfocus_pipeline.datasets.readers import (
    Decoded,
    decode,
    may_pass,
    one_of_several,
    picture_id,
    steady,
)
from medfocus_pipeline.errors import ImageError
from medfocus_pipeline.files import sha256
from medfocus_pipeline.types import IntArray

OUTSIDE = "is outside the card's layout"
"""Problem of a readable image that lies in no folder of a class."""


SEVERAL = "holds several pictures, and the card says volumes: refuse"
"""Problem of a volume, of several frames or pages, where the card wants none."""

MAX_PICTURES = 4096
"""Of one file, where all are asked for: more are taken for a damaged or hostile header."""

TOO_MANY = f"holds more than {MAX_PICTURES:,} pictures"

MASK = "is taken for the annotation mask"
"""Beginning of the problem of a file that is named, or looks, like another image's mask."""

TWO_VALUES = ", two values"
"""In the mode of a picture that may be a mask."""

_AT_A_TIME = 4096
"""Files that are waiting to be opened, or were and wait to be put with the others."""

CONTENTS = pa.schema(
    [ROW.field(name) for name in ("image_id", "width", "height", "mode", "patient", "problem")]
)
"""Pictures by the column; see `Content`."""


@dataclass(frozen=True, slots=True)
class Content:
    """What only opening a file can tell."""

    image_id: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    patient: str = ""
    problem: str = ""


def open_all(
    root: Path,
    entries: pa.RecordBatch,
    previous: Manifest | None,
    on_file: Callable[[int, int], None] | None,
    workers: int,
    *,
    every: bool,
) -> tuple[pa.RecordBatch, IntArray]:
    """What is in each file; an unchanged one is not opened again, a refused one never.

    Args:
        entries: as `ENTRIES`.
        every: of several pictures in a file each is opened, else the middle one.

    Returns:
        One row a picture, as `CONTENTS`, and which entry each is of, ``(m,) int64`` ascending.
    """
    refused = ~is_empty(entries.column("refused"))
    earlier, rows, known = CONTENTS.empty_table(), *(np.zeros(0, np.int64) for _ in range(2))
    if previous is not None:
        earlier = _earlier(previous)
        rows, known = _unchanged(entries, previous, every=every)
        rows, known = rows[~refused[known]], known[~refused[known]]
    seen = refused.copy()
    seen[known] = True
    opened, new = _opened(root, entries, np.flatnonzero(~seen), on_file, workers, every=every)
    shut = np.flatnonzero(refused)
    pictures = pa.concat_tables([earlier, opened, _by_column([Content()])])
    rows = np.concatenate(
        [rows, len(earlier) + np.arange(len(new)), np.full(len(shut), len(pictures) - 1)]
    )
    of = np.concatenate([known, new, shut])
    order = np.argsort(of, kind="stable")
    columns = [taken(column, rows[order]) for column in pictures.columns]
    return pa.record_batch(columns, schema=CONTENTS), of[order]


def _earlier(previous: Manifest) -> pa.Table:
    """What an earlier scan saw in the files, as `CONTENTS`."""
    columns = [previous.column(name) for name in CONTENTS.names]
    return pa.table([*columns[:-1], recoded(columns[-1], _told)], schema=CONTENTS)


def _told(problem: str) -> str:
    """A problem, if it is of what the file holds and not of how it is read."""
    return "" if problem in {OUTSIDE, SEVERAL} or problem.startswith(MASK) else problem


def _unchanged(
    entries: pa.RecordBatch, previous: Manifest, *, every: bool
) -> tuple[IntArray, IntArray]:
    """Rows of an earlier manifest that are still right, and which entry each is of."""
    names = whole(previous.column("path"))
    of = found_at(names, entries.column("path"))
    if every:  # scan.nii/0003 is one of a file's pictures
        files = pc.replace_substring_regex(names, r"/\d+$", "")
        of = np.where(of < 0, found_at(files, entries.column("path")), of)
    passing = which_are(previous.column("problem"), is_passing)
    unopened = is_empty(previous.column("image_id"))
    rows = np.flatnonzero((of >= 0) & ~passing & ~unopened)
    for name in ("bytes", "mtime_ns"):
        then, now = numbers(previous.column(name)), numbers(entries.column(name))
        rows = rows[then[rows] == now[of[rows]]]
    pictures = np.ones(len(entries), np.int64)
    if every:
        modes, mode_of = kinds(previous.column("mode"))
        counts = [several[2] if (several := one_of_several(one)) else 1 for one in modes]
        np.maximum.at(pictures, of[rows], np.array(counts, np.int64)[mode_of[rows]])
    complete = np.bincount(of[rows], minlength=len(entries)) == pictures
    rows = rows[complete[of[rows]]]
    return rows, of[rows]


def _opened(
    root: Path,
    entries: pa.RecordBatch,
    rows: IntArray,
    on_file: Callable[[int, int], None] | None,
    workers: int,
    *,
    every: bool,
) -> tuple[pa.Table, IntArray]:
    """What is in the files of some entries, and which entry each picture is of."""
    parts, of = [_by_column([])], [rows[:0]]
    done = itertools.count(1)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="scan")
    try:
        for some in np.split(rows, range(_AT_A_TIME, len(rows), _AT_A_TIME)):
            names = kept(entries.column("path"), some).to_pylist() if len(some) else []
            found = []
            for contents in pool.map(lambda name: _open(root / name, every=every), names):
                found.append(contents)
                if on_file:
                    on_file(next(done), len(rows))
            parts.append(_by_column([content for contents in found for content in contents]))
            of.append(np.repeat(some, list(map(len, found))))
    finally:
        pool.shutdown(cancel_futures=True)
    return pa.concat_tables(parts), np.concatenate(of)


def _by_column(contents: Sequence[Content]) -> pa.Table:
    """Pictures as `CONTENTS`."""
    columns = []
    for field in CONTENTS:
        values = [getattr(content, field.name) for content in contents]
        text = field.type == pa.string()
        columns.append(id_array(values) if text else number_array(np.array(values, np.int32)))
    return pa.table(columns, schema=CONTENTS)


def is_passing(problem: str) -> bool:
    """Whether a file with this problem is opened again though it looks the same."""
    return may_pass(problem) or problem == TOO_MANY


def _open(path: Path, *, every: bool) -> list[Content]:
    """Hash and decode one file: its only picture, the middle one, or all."""
    try:
        with steady(path) as file:
            file_id, found = sha256(file), _decoded(file)
            several = None if isinstance(found, ImageError) else one_of_several(found.mode)
            if not (every and several):
                return [_content(file_id, found)]
            if several[2] > MAX_PICTURES:
                return [Content(file_id, problem=TOO_MANY)]
            return [
                _content(picture_id(file_id, number), _decoded(file, number))
                for number in range(several[2])
            ]
    except ImageError as error:
        return [Content(problem=str(error))]
    except OSError as error:
        return [Content(problem=f"cannot be read: {error.strerror}")]


def _content(image_id: str, found: Decoded | ImageError) -> Content:
    if isinstance(found, ImageError):
        return Content(image_id, problem=str(found))
    height, width, _ = found.pixels.shape
    values = TWO_VALUES if at_most_two_values(found.pixels) else ""
    return Content(image_id, width, height, found.mode + values, found.patient)


def _decoded(path: Path, number: int | None = None) -> Decoded | ImageError:
    try:
        return decode(path, number)
    except ImageError as error:
        return error
