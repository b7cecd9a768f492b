"""Where the files of a folder belong, before one is opened: by the column."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medfocus_pipeline.columns import (
    blank,
    id_array,
    in_rows,
    is_text,
    kinds,
    number_array,
    recoded,
    replaced,
    spread,
    where,
    which_are,
)
from medfocus_pipeline.datasets.card import Card
from medfocus_pipeline.datasets.contents import MASK
from medfocus_pipeline.datasets.found import FILES
from medfocus_pipeline.datasets.layout import (
    expected_layout,
    folders_below,
    guess_card,
    is_left_out,
    place_files,
)
from medfocus_pipeline.datasets.manifest_columns import VALIDATION
from medfocus_pipeline.datasets.masks_by_name import masks_of
from medfocus_pipeline.datasets.readers import EXTENSIONS
from medfocus_pipeline.errors import DataError

ENTRIES = pa.schema(
    [
        *FILES,
        pa.field("split", pa.string(), nullable=False),
        pa.field("class_index", pa.int32(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("below", pa.string(), nullable=False),
    ]
)
"""Files of a data set, and what is said of each.

The columns of `FILES`. ``split`` and ``class_index`` are those of a `Place`, empty and -1 outside
the card's layout; ``group`` is the patient and ``domain`` the hospital or machine, or empty;
``below`` are the folders between that of the class and the file.
"""

NOT_VALIDATED = (
    "is of the validation split, which neither trains nor tests (use_validation: train in a card)"
)
"""Why an image of a validation split is left out."""

_FILE = "file"
"""Stands for the files of a folder, whose names say nothing of their place."""


def of_folder(
    files: pa.RecordBatch, card: Card | None, source: Path, *, keep_masks: bool
) -> tuple[pa.RecordBatch, Card]:
    """The image files of a folder, with the card that gave them their places.

    Args:
        files: as `FILES`.
        card: of the data set; None takes the classes from the folders.
        source: the folder.
        keep_masks: files that are called like annotation masks are images.

    Returns:
        As `ENTRIES`.

    Raises:
        DataError: there is no image, or none where the card looks for them.
    """
    if not len(files):
        raise DataError(
            f"No image in {source}. Expected files that end in {', '.join(sorted(EXTENSIONS))}; "
            "or give a CSV with the columns path and label: DATA=images.csv"
        )
    files = files if keep_masks else _without_masks(files)
    paths = files.column("path")
    folders, of = kinds(pc.replace_substring_regex(paths, "[^/]*$", ""))
    names = [folder + _FILE for folder in folders]
    images = np.flatnonzero(~which_are(files.column("refused"), lambda why: why.startswith(MASK)))
    used = card or guess_card([names[folder] for folder in np.unique(of[images])], source.name)
    places = place_files(names, used)
    if not any(places):
        raise DataError(
            f"No image in {source} lies where the card {used.title!r} expects it: "
            f"{expected_layout(used)}. Found {str(paths[images[0]])!r}. Point DATA at the folder "
            "that holds these, or describe yours in a card (data/README.md)."
        )
    index = np.array([place.class_index if place else -1 for place in places], np.int32)
    columns = [
        spread([place.split if place else "" for place in places], of),
        number_array(index[of]),
        patients(paths, used),
        blank(len(files)),
        spread(["/".join(folders_below(name, used)) for name in names], of),
    ]
    return pa.record_batch([*files.columns, *columns], schema=ENTRIES), used


def without_left_out(entries: pa.RecordBatch, card: Card) -> pa.RecordBatch:
    """The entries without the files that the card excludes, and without annotations."""
    if not (card.exclude or card.annotation):
        return entries
    stays = [not is_left_out(path, card) for (path,) in in_rows(entries.column("path"))]
    return entries.take(number_array(np.flatnonzero(stays)))


def validated(entries: pa.RecordBatch, card: Card) -> pa.RecordBatch:
    """An image of a validation split stays there or trains, if the card says so, or is left out."""
    split = entries.column("split")
    chooses = is_text(split, VALIDATION)
    if card.use_validation == "keep" or not chooses.any():
        return entries
    becomes = "train" if card.use_validation == "train" else ""
    entries = changed(
        entries, "split", recoded(split, lambda name: becomes if name == VALIDATION else name)
    )
    if becomes:
        return entries
    return changed(entries, "refused", where(chooses, NOT_VALIDATED, entries.column("refused")))


def changed(entries: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    """The entries with another column of that name."""
    place = entries.schema.get_field_index(name)
    return entries.set_column(place, entries.schema.field(place), column)


def patients(paths: pa.StringArray, card: Card) -> pa.StringArray:
    """The patient that each path names."""
    if not card.patient:
        return blank(len(paths))
    return id_array([card.patient_of(path) for (path,) in in_rows(paths)])


def _without_masks(files: pa.RecordBatch) -> pa.RecordBatch:
    """The files, those refused that are called like another one's annotation mask."""
    masks, images = masks_of(files.column("path"))
    if not len(masks):
        return files
    names = files.column("path").take(number_array(images)).to_pylist()
    why = [f"{MASK} of {name!r} by its name (--keep-masks: an image)" for name in names]
    return changed(files, "refused", replaced(files.column("refused"), masks, why))
