"""A CSV that lists images, by the column."""

import csv
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from medfocus_pipeline.columns import id_array, number_array
from medfocus_pipeline.datasets.card import Listing
from medfocus_pipeline.datasets.names import clean, fold
from medfocus_pipeline.datasets.reading import Column
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


LINES = pa.schema(
    [
        pa.field("line", pa.int64()),
        *(pa.field(name, pa.string()) for name in (*_REQUIRED, *_OPTIONAL)),
    ]
)
"""Where a line ends in the file, from 1, and its fields; those that are not there are empty."""

_AT_A_TIME = 10_000
"""Lines."""

_SHOWN = 20


def read_lines(path: Path, named: Mapping[Column, str], listing: Listing | None) -> pa.Table:
    """Every line of a CSV, as `LINES`.

    Args:
        path: UTF-8 with commas, semicolons or tabs.
        named: ours -> theirs, of columns.
        listing: how a card makes the path from other columns.

    Raises:
        DataError: it cannot be read, is no CSV, lacks a column or lists nothing.
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
            lines = pa.Table.from_batches(_parts(reader, columns, listing), schema=LINES)
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
    if not len(lines):
        raise DataError(f"{path} lists no image. Add lines below {','.join(there)}.")
    return lines


def problems_of(path: Path, problems: Sequence[str]) -> str:
    """All problems of a file, the many of a large one cut short."""
    shown = "\n".join(f"  {text}" for text in problems[:_SHOWN])
    rest = len(problems) - _SHOWN
    return f"{path} has {len(problems)} problem{'s' if len(problems) > 1 else ''}:\n{shown}" + (
        f"\n  and {rest} more" if rest > 0 else ""
    )


def _parts(
    reader: "csv.DictReader[str]", columns: Mapping[str, str], listing: Listing | None
) -> Iterator[pa.RecordBatch]:
    """The lines, so many at a time.

    Args:
        columns: ours -> theirs.
    """
    while rows := [(reader.line_num, row) for row in islice(reader, _AT_A_TIME)]:
        cells = {
            ours: [_cell(ours, row[theirs]) if theirs else "" for _, row in rows]
            for ours, theirs in columns.items()
        }
        if listing:
            cells["path"] = [_made(listing, row) for _, row in rows]
        numbers = number_array(np.array([number for number, _ in rows], np.int64))
        texts = [id_array(cells[name]) for name in LINES.names[1:]]
        yield pa.record_batch([numbers, *texts], schema=LINES)


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
            problems_of(path, problems) + f"\nThere are {columns}; expected: {_EXPECTED}. "
            'Others are named with --columns "path=…,label=…", or under columns in a card.'
        )
    ignored = [name for name in there if name and name not in (*found.values(), *parts)]
    if ignored:
        _log.warning("%s: columns that are ignored: %s", path, ", ".join(ignored))
    return found
