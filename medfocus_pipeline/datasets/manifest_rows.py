"""What is known of files becomes rows of the manifest."""

import numpy as np
import pyarrow as pa

from medfocus_pipeline.columns import (
    found_at,
    glued,
    is_empty,
    kept,
    kinds,
    numbers,
    replaced,
    row_array,
    spread,
    where,
    which_are,
)
from medfocus_pipeline.datasets.card import Card
from medfocus_pipeline.datasets.contents import CONTENTS, MASK, OUTSIDE, SEVERAL, TWO_VALUES
from medfocus_pipeline.datasets.entries import ENTRIES, changed
from medfocus_pipeline.datasets.manifest_columns import ROW
from medfocus_pipeline.datasets.names import file_names, patient_folders, without_endings
from medfocus_pipeline.datasets.readers import one_of_several
from medfocus_pipeline.types import IntArray


def without_drawn_masks(
    entries: pa.RecordBatch, contents: pa.RecordBatch, of: IntArray
) -> pa.RecordBatch:
    """The entries, those refused that look like the annotation mask of another one.

    A mask has at most two values, and its name but for folder and ending, its size, its class and
    its split are those of a picture that has more.

    Args:
        entries: as `ENTRIES`.
        contents, of: see `open_all`.
    """
    first = _first_pictures(of)
    two = which_are(kept(contents.column("mode"), first), lambda mode: mode.endswith(TWO_VALUES))
    if not two.any():
        return entries
    placed = numbers(entries.column("class_index")) >= 0
    seen = numbers(kept(contents.column("width"), first)) > 0
    stems = file_names(without_endings(entries.column("path")))
    known = glued(stems, "/", entries.column("split"))
    sizes = (kept(contents.column(name), first) for name in ("width", "height"))
    for fact in (entries.column("class_index"), *sizes):
        known = glued(known, "/", fact.cast(pa.string()))
    open_ = is_empty(entries.column("refused"))
    drawn, pictures = np.flatnonzero(open_ & two), np.flatnonzero(open_ & ~two & placed & seen)
    pictures = pictures[::-1]  # of equal ones the last
    at = found_at(kept(known, drawn), known.take(row_array(pictures)))
    drawn, at = drawn[at >= 0], at[at >= 0]
    names = entries.column("path").take(row_array(pictures[at])).to_pylist()
    why = [f"{MASK} of {name!r} by its content (--keep-masks: an image)" for name in names]
    return changed(entries, "refused", replaced(entries.column("refused"), drawn, why))


def manifest_rows(
    entries: pa.RecordBatch, contents: pa.RecordBatch, of: IntArray, card: Card
) -> pa.Table:
    """A row for every picture of every file, those of one file in one group.

    Args:
        entries: as `ENTRIES`.
        contents, of: see `open_all`.

    Returns:
        As `ROW`.
    """
    entries = entries if len(of) == len(entries) else entries.take(row_array(of))
    groups = _groups(entries, contents)
    paths = entries.column("path")
    several = np.bincount(of)[of] > 1
    if several.any():
        groups = where(several & is_empty(groups), paths, groups)
        number = np.arange(len(of)) - _first_pictures(of)[of]
        digits = [f"{one:04d}" for one in range(number.max() + 1)]
        paths = where(several, glued(paths, "/", spread(digits, number)), paths)
    index = numbers(entries.column("class_index")).astype(np.int64)
    names = [*(item.name for item in card.classes), ""]
    own = {
        "path": paths,
        "class_name": spread(names, index % len(names)),
        "group": groups,
        "problem": _problems(entries, contents, card),
    }
    known = dict(zip(ENTRIES.names, entries.columns, strict=True))
    known |= dict(zip(CONTENTS.names, contents.columns, strict=True)) | own
    return pa.table([known[name] for name in ROW.names], schema=ROW)


def _first_pictures(of: IntArray) -> IntArray:
    """The row of the first picture of each file; see `open_all`."""
    return np.flatnonzero(np.diff(of, prepend=-1))


def _groups(entries: pa.RecordBatch, contents: pa.RecordBatch) -> pa.StringArray:
    """The patient: of the card or CSV, else of the header, else of the folders.

    A header's patient that all images share tells none apart and is not used.

    Args:
        entries: of each picture.
    """
    own, headers = entries.column("group"), contents.column("patient")
    if not is_empty(own).all():
        return own
    if len({*kinds(headers)[0]} - {""}) > 1:
        return headers
    index = numbers(entries.column("class_index"))
    placed = np.flatnonzero((index >= 0) & is_empty(entries.column("refused")))
    below, which = kinds(entries.column("below"))
    pairs, pair = np.unique(which[placed] << 32 | index[placed], return_inverse=True)
    folders = [
        (int(one & 0xFFFFFFFF), tuple(filter(None, below[one >> 32].split("/")))) for one in pairs
    ]
    words = [*patient_folders(folders), ""]
    groups = np.full(len(own), len(pairs))
    groups[placed] = pair
    return spread(words, groups)


def _problems(entries: pa.RecordBatch, contents: pa.RecordBatch, card: Card) -> pa.StringArray:
    """Why a picture is not usable: its file may not be opened, cannot be, or has no place."""
    problem, refused = contents.column("problem"), entries.column("refused")
    if card.volumes == "refuse":
        several = which_are(contents.column("mode"), lambda mode: one_of_several(mode) is not None)
        problem = where(several, SEVERAL, problem)
    outside = (numbers(entries.column("class_index")) < 0) & is_empty(problem)
    return where(is_empty(refused), where(outside, OUTSIDE, problem), refused)
