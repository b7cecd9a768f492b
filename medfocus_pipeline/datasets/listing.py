"""A CSV instead of class folders: ``path,label[,split][,group][,domain]``."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medfocus_pipeline.columns import (
    blank,
    in_rows,
    is_empty,
    kinds,
    number_array,
    numbers,
    recoded,
    row_array,
    where,
    which_are,
    whole,
)
from medfocus_pipeline.datasets.card import Card, plain_card
from medfocus_pipeline.datasets.csv_lines import problems_of, read_lines
from medfocus_pipeline.datasets.entries import ENTRIES, patients
from medfocus_pipeline.datasets.found import in_path_order, is_missing
from medfocus_pipeline.datasets.listed_files import find_files
from medfocus_pipeline.datasets.manifest_columns import SYNTHETIC
from medfocus_pipeline.datasets.names import check_class_names, fold, split_side
from medfocus_pipeline.datasets.reading import Column
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.types import BoolArray, IntArray

_SEVERAL = re.compile(r"[|;,]")
"""Between labels of one cell."""

_SPLITS = "train, validation, test nor synthetic"

UNLABELLED = "has no label in the CSV"


def read_listing(
    path: Path, card: Card | None, *, root: Path, columns: Mapping[Column, str]
) -> tuple[pa.RecordBatch, Card, list[pa.RecordBatch]]:
    """Read a CSV of images, sorted by path.

    Args:
        path: UTF-8 with commas, semicolons or tabs. Columns may be called as public sets call
            them; others are ignored, and named in the log. A line that says of a file what
            another one said is read once.
        card: of the data set; its classes are the only labels then. None takes the labels
            that occur, sorted.
        root: the data folder. A path may be absolute inside of it; one that is not there is
            looked for by its name, with or without its ending, below it.
        columns: ours -> what they are called here.

    Returns:
        The files as `ENTRIES`, by path, the card they were read with, and all images below the
        root if these were looked through, as `columns_below`.

    Raises:
        DataError: all problems of the file, each with its line.
    """
    lines = read_lines(path, columns, card.listing if card else None)
    _refuse_several(path, lines, card)
    labels, label_of = kinds(lines["label"])
    card = card or _card_of_labels(path, labels)
    files, parts = find_files(root, whole(lines["path"]))
    index = np.array([card.class_index.get(fold(one), -1) for one in labels], np.int32)[label_of]
    again, twice = _repeated(files.column("path"), index, kinds(lines["split"])[1])
    once = np.flatnonzero(~again)
    if len(once) < len(lines):
        rows = row_array(once)
        lines, files, index, twice = lines.take(rows), files.take(rows), index[once], twice[once]
    problems = list(_wrong_lines(lines, files, index, twice, root))
    if problems:
        known = ", ".join(item.name for item in card.classes)
        raise DataError(
            problems_of(path, problems)
            + f"\nLabels: {known}. Mend the lines, or name the folder that the "
            "paths are relative to (--images), and try again."
        )
    return in_path_order(_entries(lines, files, index, card)), card, parts


def _entries(
    lines: pa.Table, files: pa.RecordBatch, index: NDArray[np.int32], card: Card
) -> pa.RecordBatch:
    """What the lines say, as `ENTRIES`."""
    labelled = ~is_empty(lines["label"])
    split = recoded(lines["split"], lambda text: _split(text) or "")
    group = whole(lines["group"])
    columns = [
        *files.columns[:-1],
        where(labelled, files.column("refused"), UNLABELLED),
        where(labelled, split, ""),
        number_array(index),  # of no label it is -1
        where(is_empty(group), patients(files.column("path"), card), group),
        whole(lines["domain"]),
        blank(len(lines)),
    ]
    return pa.record_batch(columns, schema=ENTRIES)


def _refuse_several(path: Path, lines: pa.Table, card: Card | None) -> None:
    """Refuse a CSV that has several labels in one cell.

    Raises:
        DataError: it has; each line is named.
    """
    known = card.class_index if card else {}
    several = which_are(
        lines["label"], lambda one: fold(one) not in known and bool(_SEVERAL.search(one))
    )
    rows = lines.select(["line", "label"]).take(row_array(np.flatnonzero(several)))
    problems = [
        f"line {number}: {label!r} is several labels; keep one of them, or name the "
        "combination as a class in a card"
        for number, label in in_rows(*rows.columns)
    ]
    if problems:
        raise DataError(problems_of(path, problems))


def _repeated(
    paths: pa.StringArray, index: NDArray[np.int32], split: IntArray
) -> tuple[BoolArray, BoolArray]:
    """Which lines say of a file what the line before of it said, and which something else.

    Args:
        index: class index of each line, ``(n,)``.
        split: a number of its split, ``(n,)``.
    """
    coded = numbers(paths.dictionary_encode().indices)
    again, twice = np.zeros((2, len(paths)), np.bool_)
    said: dict[int, tuple[int, int]] = {}
    for row in np.flatnonzero(np.bincount(coded)[coded] > 1).tolist():
        says = int(index[row]), int(split[row])
        before = said.get(coded[row])
        again[row], twice[row] = before == says, before not in (None, says)
        said[coded[row]] = says
    return again, twice


def _wrong_lines(
    lines: pa.Table, files: pa.RecordBatch, index: NDArray[np.int32], twice: BoolArray, root: Path
) -> Iterator[str]:
    """What is wrong with lines: they name no file, label or split, or something else than others.

    Args:
        lines, files, index, twice: of each line.
    """
    sides, split_of = kinds(lines["split"])
    with_split = any(side not in {"", SYNTHETIC} for side in sides)
    missing = is_missing(files)
    wrong = (
        missing,
        twice & ~missing,
        (index < 0) & ~is_empty(lines["label"]),
        np.array([_split(side) is None for side in sides])[split_of],
        with_split & is_empty(lines["split"]),
    )
    rows = np.flatnonzero(np.any(wrong, axis=0))
    texts = lines.select(["line", "path", "label", "split"]).take(row_array(rows)).columns
    names = files.column("path").take(row_array(rows))
    for row, (number, path, label, split, name) in zip(
        rows.tolist(), in_rows(*texts, names), strict=True
    ):
        what = (
            f"no file {path!r} in {root}",
            f"path {name!r} stands twice, with different labels or splits",
            f"unknown label {label!r}",
            f"split {split!r} is neither {_SPLITS}",
            "split is empty, but not in other lines",
        )
        yield from (
            f"line {number}: {text}" for text, so in zip(what, wrong, strict=True) if so[row]
        )


def _card_of_labels(path: Path, labels: Sequence[str]) -> Card:
    """A card whose classes are the labels that occur, without regard to case."""
    names = check_class_names(labels)
    if not names:
        raise DataError(
            f"{path} labels no image: its column label is empty throughout. Name the column that "
            'has the classes: --columns "label=…"'
        )
    return plain_card(path.stem, names)


def _split(text: str) -> str | None:
    """Side of the split, empty where the line says none; None for any other text."""
    if fold(text) == SYNTHETIC:
        return SYNTHETIC
    side = split_side(text)
    return side if side in {"train", "validation", "test"} else None if text else ""
