"""A CSV instead of class folders: ``path,label[,split][,group][,domain]``."""

import csv
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from medfocus_pipeline.datasets.card import Card, Listing, plain_card
from medfocus_pipeline.datasets.found import ImageFile
from medfocus_pipeline.datasets.layout import Entry, Place
from medfocus_pipeline.datasets.manifest_columns import SYNTHETIC
from medfocus_pipeline.datasets.names import (
    check_class_names,
    clean,
    fold,
    split_side,
    without_ending,
)
from medfocus_pipeline.datasets.reading import Column
from medfocus_pipeline.datasets.tree import describer, find_images
from medfocus_pipeline.errors import DataError

_log = logging.getLogger(__name__)

_REQUIRED: tuple[Column, ...] = ("path", "label")
_OPTIONAL: tuple[Column, ...] = ("split", "group", "domain")
_EXPECTED = "path,label[,split][,group][,domain]"

_ALSO_CALLED: dict[Column, tuple[str, ...]] = {
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

NOT_VALIDATED = (
    "is of the validation split, which neither trains nor tests (use_validation: train in a card)"
)
"""Why an image of a validation split is left out."""

UNLABELLED = "has no label in the CSV"


def read_listing(
    path: Path, card: Card | None, *, root: Path, columns: Mapping[Column, str]
) -> tuple[list[Entry], Card]:
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
        The lines and the card they were read with.

    Raises:
        DataError: all problems of the file, each with its line.
    """
    rows = _read_rows(path, columns, card.listing if card else None)
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
    find = _Finder(root)
    with_split = any(row["split"] not in {"", SYNTHETIC} for _, row in rows)
    lines: dict[str, Entry] = {}
    said: dict[str, tuple[int, str]] = {}
    problems: list[str] = []
    for number, row in rows:
        index = card.class_index.get(fold(row["label"]), -1)
        split = _split(row["split"])
        file, name = find(row["path"])
        if said.get(name) == (index, row["split"]):
            continue
        said[name] = index, row["split"]
        wrong = {
            f"no file {row['path']!r} in {root}": file is None or file.missing,
            f"path {name!r} stands twice, with different labels or splits": name in lines,
            f"unknown label {row['label']!r}": index < 0 and row["label"] != "",
            f"split {row['split']!r} is neither {_SPLITS}": split is None,
            "split is empty, but not in other lines": with_split and split == "",
        }
        problems += [f"line {number}: {text}" for text, holds in wrong.items() if holds]
        if file is not None:
            group = row["group"] or card.patient_of(name)
            if not row["label"]:
                file = replace(file, refused=UNLABELLED)
            place = Place(split or "", index) if row["label"] else None
            lines[name] = Entry(file, place, group, domain=row["domain"])
    if problems:
        labels = ", ".join(item.name for item in card.classes)
        raise DataError(
            _told(path, problems)
            + f"\nLabels: {labels}. Mend the lines, or name the folder that the "
            "paths are relative to (--images), and try again."
        )
    return sorted(lines.values(), key=lambda line: line.file.path), card


class _Finder:
    """The file that a line means."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.describe = describer(root)
        self.named: dict[str, list[str]] | None = None

    def __call__(self, text: str) -> tuple[ImageFile | None, str]:
        """The file, None if there is none, and its path relative to the root."""
        path = PurePosixPath(text)
        absolute = path.is_absolute() or path.parts[:1] == PurePosixPath(self.root).parts[:1]
        for top in (self.root.absolute(), self.root.resolve()) if absolute else ():
            path = path.relative_to(top) if path.is_relative_to(top) else path
        name = path.as_posix()
        if not text or path.is_absolute() or ".." in path.parts:
            return None, name
        file = self.describe(name)
        if file is not None and file.missing and len(alike := self._named(name)) == 1:
            return self.describe(alike[0]), alike[0]
        return file, name

    def _named(self, name: str) -> list[str]:
        """Images anywhere below the root of that name, or of that name and an ending."""
        if "/" in name:
            return []
        if self.named is None:
            self.named = {}
            for file in find_images(self.root):
                whole = file.path.rpartition("/")[2]
                for called in {whole, without_ending(whole)}:
                    self.named.setdefault(called, []).append(file.path)
        return self.named.get(name, [])


def _read_rows(
    path: Path, named: Mapping[Column, str], listing: Listing | None
) -> list[tuple[int, dict[str, str]]]:
    """Line number and fields of every line, fields that are not there empty.

    Args:
        named: ours -> theirs, of columns.
        listing: how a card makes the path from other columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            separator = max(_SEPARATORS, key=head.count)
            reader = csv.DictReader(file, restkey="", restval="", strict=True, delimiter=separator)
            there = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = there
            columns = _columns(path, there, named, listing)
            rows = [
                (
                    reader.line_num,
                    {
                        ours: _cell(ours, row[theirs]) if theirs else ""
                        for ours, theirs in columns.items()
                    }
                    | ({"path": _made(listing, row)} if listing else {}),
                )
                for row in reader
            ]
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}. See to the right to read it, or name "
            "another: DATA=images.csv"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8."
        ) from error
    except csv.Error as error:
        raise DataError(
            f"{path} is no CSV: {error}. Expected a header and a line an image (docs/own-data.md)."
        ) from error
    if not rows:
        raise DataError(f"{path} lists no image. Add lines below {','.join(there)}.")
    return rows


def _cell(ours: str, text: str) -> str:
    """A cell without blanks around it; names of files are bytes and not composed."""
    return text.strip() if ours == "path" else clean(text)


def _made(listing: Listing, row: Mapping[str, str]) -> str:
    """The path of a line, as the card makes it."""
    return _BRACES.sub(lambda found: row[found[1]].strip(), listing.path)


def _columns(
    path: Path, there: Sequence[str], named: Mapping[Column, str], listing: Listing | None
) -> dict[str, str]:
    """Ours -> theirs: as named, else as we call it, else as public sets do; "" is none.

    Raises:
        DataError: a column is missing or stands twice; all of them are said.
    """
    folded = [fold(name) for name in there]
    found: dict[str, str] = {}
    parts = _BRACES.findall(listing.path) if listing else []
    problems = [
        f"column {name} is missing, of which the card makes paths ({listing.path})"
        for name in parts
        if listing and name not in there
    ]
    required = _REQUIRED[1:] if listing else _REQUIRED
    for ours in (*_REQUIRED, *_OPTIONAL):
        wanted = [named[ours]] if ours in named else [ours, *_ALSO_CALLED[ours]]
        places = [folded.index(fold(name)) for name in wanted if fold(name) in folded]
        found[ours] = there[places[0]] if places else ""
        if not places and (ours in named or ours in required):
            problems.append(f"column {wanted[0]} is missing")
        if places and there.count(found[ours]) > 1:
            problems.append(f"column {found[ours]} stands twice")
    if problems:
        columns = ", ".join(map(repr, there))
        raise DataError(
            _told(path, problems) + f"\nThere are {columns}; expected: {_EXPECTED}. "
            'Others are named with --columns "path=…,label=…", or under columns in a card.'
        )
    ignored = [name for name in there if name and name not in (*found.values(), *parts)]
    if ignored:
        _log.warning("%s: columns that are ignored: %s", path, ", ".join(ignored))
    return found


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


def _told(path: Path, problems: Sequence[str]) -> str:
    """All problems of a file, the many of a large one cut short."""
    shown = "\n".join(f"  {text}" for text in problems[:_SHOWN])
    rest = len(problems) - _SHOWN
    return f"{path} has {len(problems)} problem{'s' if len(problems) > 1 else ''}:\n{shown}" + (
        f"\n  and {rest} more" if rest > 0 else ""
    )
