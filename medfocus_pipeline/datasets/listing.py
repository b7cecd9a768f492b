"""A CSV instead of class folders: ``path,label[,split][,group]``."""

import csv
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from medfocus_pipeline.datasets.card import Card, plain_card
from medfocus_pipeline.datasets.layout import Entry, Place
from medfocus_pipeline.datasets.names import check_class_names, clean, fold, split_side
from medfocus_pipeline.datasets.tree import describe
from medfocus_pipeline.errors import DataError

_REQUIRED = ("path", "label")
_OPTIONAL = ("split", "group")
_SHOWN = 20

VALIDATION = "is of the validation split, which neither trains nor tests"
"""Why an image of a CSV's validation split is left out."""


def read_listing(path: Path, card: Card | None) -> tuple[list[Entry], Card]:
    """Read a CSV of images, sorted by path.

    Args:
        path: UTF-8, comma separated; its folder is the data folder.
        card: of the data set; its classes are the only labels then. None takes the labels
            that occur, sorted.

    Returns:
        The lines and the card they were read with.

    Raises:
        DataError: all problems of the file, each with its line.
    """
    rows = _read_rows(path)
    card = card or _card_of_labels(path, [row["label"] for _, row in rows])
    base = os.path.realpath(path.parent)
    with_split = any(row["split"] for _, row in rows)
    lines: dict[str, Entry] = {}
    problems: list[str] = []
    for number, row in rows:
        name = PurePosixPath(row["path"]).as_posix()
        index = card.class_index.get(fold(row["label"]), -1)
        split = _split(row["split"])
        file = describe(base, name) if row["path"] and ".." not in name.split("/") else None
        wrong = {
            f"no file {row['path']!r} in {path.parent}": file is None or file.missing,
            f"path {name!r} stands twice": name in lines,
            f"unknown label {row['label']!r}": index < 0,
            f"split {row['split']!r} is neither train, validation nor test": split is None,
            "split is empty, but not in other lines": with_split and split == "",
        }
        problems += [f"line {number}: {text}" for text, holds in wrong.items() if holds]
        if file is not None:
            group = row["group"] or card.patient_of(name)
            if split == "validation":
                file, split = replace(file, refused=VALIDATION), ""
            lines[name] = Entry(file, Place(split or "", index), group)
    if problems:
        labels = ", ".join(item.name for item in card.classes)
        raise DataError(
            _told(path, problems) + f"\nLabels: {labels}. Mend the lines and try again."
        )
    return sorted(lines.values(), key=lambda line: line.file.path), card


def _read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Line number and fields of every line, fields that are not there empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", restval="", strict=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            _check_columns(path, columns)
            rows = [
                (
                    reader.line_num,
                    {
                        name: clean(row.get(name, "")) if name != "path" else row[name].strip()
                        for name in (*_REQUIRED, *_OPTIONAL)
                    },
                )
                for row in reader
            ]
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    except csv.Error as error:
        raise DataError(f"{path} is no CSV: {error}.") from error
    if not rows:
        raise DataError(f"{path} lists no image. Add lines below {','.join(columns)}.")
    return rows


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    """Refuse missing, unknown and repeated columns, all at once."""
    known = (*_REQUIRED, *_OPTIONAL)
    problems = [f"column {name} is missing" for name in _REQUIRED if name not in columns]
    problems += [f"column {name!r} is not known" for name in columns if name not in known]
    problems += [f"column {name} stands twice" for name in known if columns.count(name) > 1]
    if problems:
        raise DataError(_told(path, problems) + "\nExpected: path,label[,split][,group].")


def _card_of_labels(path: Path, labels: Sequence[str]) -> Card:
    """A card whose classes are the labels that occur, without regard to case."""
    names = check_class_names(labels)
    if not names:
        raise DataError(f"{path} labels no image: its column label is empty throughout.")
    return plain_card(path.stem, names)


def _split(text: str) -> str | None:
    """Side of the split, empty where the line says none; None for any other text."""
    side = split_side(text)
    return side if side in {"train", "validation", "test"} else None if text else ""


def _told(path: Path, problems: Sequence[str]) -> str:
    """All problems of a file, the many of a large one cut short."""
    shown = "\n".join(f"  {text}" for text in problems[:_SHOWN])
    rest = len(problems) - _SHOWN
    return f"{path} has {len(problems)} problem{'s' if len(problems) > 1 else ''}:\n{shown}" + (
        f"\n  and {rest} more" if rest > 0 else ""
    )
