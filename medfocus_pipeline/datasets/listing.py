"""A CSV instead of class folders: ``path,label[,split][,group][,domain]``."""

import csv
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from medfocus_pipeline.datasets.card import Card, Listing, plain_card
from medfocus_pipeline.datasets.layout import Entry, Place
from medfocus_pipeline.datasets.manifest import SYNTHETIC
from medfocus_pipeline.datasets.names import check_class_names, clean, fold, split_side
from medfocus_pipeline.datasets.tree import describe
from medfocus_pipeline.errors import DataError

_log = logging.getLogger(__name__)

_REQUIRED = ("path", "label")
_OPTIONAL = ("split", "group", "domain")
_EXPECTED = "path,label[,split][,group][,domain]"

_ALSO_CALLED = {
    "path": ("image index", "image", "image_path", "filename", "file_name", "filepath", "file"),
    "label": ("finding labels", "finding", "diagnosis", "class", "target"),
    "split": ("subset",),
    "domain": ("hospital", "site", "scanner", "machine"),
    "group": ("patient id", "patient_id", "patientid", "patient", "subject"),
}
"""What public sets (NIH's ChestX-ray14, CheXpert, Kaggle's) call these columns, without case."""

_SEPARATORS = (",", ";", "\t")

_BRACES = re.compile(r"\{([^{}]+)\}")
"""A column in a card's path."""

_SEVERAL = re.compile(r"[|;,]")
"""Between labels of one cell."""
_SHOWN = 20
_SPLITS = "train, validation, test nor synthetic"

VALIDATION = "is of the validation split, which neither trains nor tests"
"""Why an image of a CSV's validation split is left out."""


def read_listing(path: Path, card: Card | None) -> tuple[list[Entry], Card]:
    """Read a CSV of images, sorted by path.

    Args:
        path: UTF-8 with commas, semicolons or tabs; its folder is the data folder. Columns may
            be called as public sets call them; others are ignored, and named in the log. A line
            that says of a file what another one said is read once.
        card: of the data set; its classes are the only labels then. None takes the labels
            that occur, sorted.

    Returns:
        The lines and the card they were read with.

    Raises:
        DataError: all problems of the file, each with its line.
    """
    rows = _read_rows(path, card.listing if card else None)
    known = card.class_index if card else {}
    several = [
        f"line {number}: {row['label']!r} is several labels; keep one of them, or name the "
        "combination as a class in a card"
        for number, row in rows
        if fold(row["label"]) not in known and _SEVERAL.search(row["label"])
    ]
    if several:
        raise DataError(_told(path, several))
    card = card or _card_of_labels(path, [row["label"] for _, row in rows])
    base = os.path.realpath(path.parent)
    with_split = any(row["split"] not in {"", SYNTHETIC} for _, row in rows)
    lines: dict[str, Entry] = {}
    said: dict[str, tuple[int, str]] = {}
    problems: list[str] = []
    for number, row in rows:
        name = PurePosixPath(row["path"]).as_posix()
        index = card.class_index.get(fold(row["label"]), -1)
        split = _split(row["split"])
        file = describe(base, name) if row["path"] and ".." not in name.split("/") else None
        if said.get(name) == (index, row["split"]):
            continue
        said[name] = index, row["split"]
        wrong = {
            f"no file {row['path']!r} in {path.parent}": file is None or file.missing,
            f"path {name!r} stands twice, with different labels or splits": name in lines,
            f"unknown label {row['label']!r}": index < 0,
            f"split {row['split']!r} is neither {_SPLITS}": split is None,
            "split is empty, but not in other lines": with_split and split == "",
        }
        problems += [f"line {number}: {text}" for text, holds in wrong.items() if holds]
        if file is not None:
            group = row["group"] or card.patient_of(name)
            if split == "validation":
                file, split = replace(file, refused=VALIDATION), ""
            lines[name] = Entry(file, Place(split or "", index), group, domain=row["domain"])
    if problems:
        labels = ", ".join(item.name for item in card.classes)
        raise DataError(
            _told(path, problems) + f"\nLabels: {labels}. Mend the lines and try again."
        )
    return sorted(lines.values(), key=lambda line: line.file.path), card


def _read_rows(path: Path, named: Listing | None) -> list[tuple[int, dict[str, str]]]:
    """Line number and fields of every line, fields that are not there empty.

    Args:
        named: how a card makes the path from other columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            separator = max(_SEPARATORS, key=head.count)
            reader = csv.DictReader(file, restkey="", restval="", strict=True, delimiter=separator)
            said = [name.strip() for name in reader.fieldnames or ()]
            columns = _named(said)
            reader.fieldnames = columns
            path_of = _path_maker(path, named, dict(zip(said, columns, strict=True)))
            _check_columns(path, ["path", *columns] if named else columns)
            rows = [
                (
                    reader.line_num,
                    {name: clean(row.get(name, "")) for name in (*_REQUIRED, *_OPTIONAL)}
                    | {"path": path_of(row)},
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


def _path_maker(
    path: Path, named: Listing | None, columns: Mapping[str, str]
) -> Callable[[Mapping[str, str]], str]:
    """What makes an image's path from its line.

    Args:
        columns: name in the file -> name by which a line's field is found.
    """
    if named is None:
        return lambda row: row["path"].strip()
    wanted = _BRACES.findall(named.path)
    missing = [f"column {name} is missing" for name in wanted if name not in columns]
    if missing:
        raise DataError(_told(path, missing) + f"\nThe card makes paths as {named.path!r}.")
    return lambda row: _BRACES.sub(lambda found: row[columns[found[1]]].strip(), named.path)


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    """Refuse missing and repeated columns, all at once, and name those that are ignored."""
    known = (*_REQUIRED, *_OPTIONAL)
    problems = [f"column {name} is missing" for name in _REQUIRED if name not in columns]
    problems += [f"column {name} stands twice" for name in known if columns.count(name) > 1]
    if problems:
        there = ", ".join(map(repr, columns))
        raise DataError(_told(path, problems) + f"\nThere are {there}; expected: {_EXPECTED}.")
    ignored = [name for name in columns if name and name not in known]
    if ignored:
        _log.warning("%s: columns that are ignored: %s", path, ", ".join(ignored))


def _named(columns: Sequence[str]) -> list[str]:
    """Columns by our names, where a set calls them otherwise and has none of ours."""
    folded = [fold(name) for name in columns]
    named = list(columns)
    for ours, others in _ALSO_CALLED.items():
        places = [folded.index(name) for name in (ours, *others) if name in folded]
        if places and ours not in columns:
            named[places[0]] = ours
    return named


def _card_of_labels(path: Path, labels: Sequence[str]) -> Card:
    """A card whose classes are the labels that occur, without regard to case."""
    names = check_class_names(labels)
    if not names:
        raise DataError(f"{path} labels no image: its column label is empty throughout.")
    return plain_card(path.stem, names)


def _split(text: str) -> str | None:
    """Side of the split, empty where the line says none; None for any other text."""
    if fold(text) == SYNTHETIC:
        return SYNTHETIC
    side = split_side(text)
    return side if side in {"train", "validation", "test"} else None if text else ""


def _told(path: Path, problems: Sequence[str]) -> str:
    """All problems of a file, the many of a large one cut short."""
    shown = "\n".join(f"  {text}" for text in problems[:_SHOWN])
    rest = len(problems) - _SHOWN
    return f"{path} has {len(problems)} problem{'s' if len(problems) > 1 else ''}:\n{shown}" + (
        f"\n  and {rest} more" if rest > 0 else ""
    )
