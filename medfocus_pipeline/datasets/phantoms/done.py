"""``captions.parquet``: what is in a folder of phantoms, in words, and which phantoms are done."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from medfocus_pipeline.datasets.phantoms.folder import CAPTIONS, PhantomSet, Place, files
from medfocus_pipeline.files import read_parquet, replacing

Row: TypeAlias = Mapping[str, Any]

COLUMNS = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("class", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("index", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
    ]
)
"""One row an image, sorted by path.

``path`` and ``split`` as in the manifest, ``class`` by its name; ``caption`` is an English
sentence or phrase. ``phantom.draw`` makes the image again from ``kind``, ``seed`` and ``index``.
"""


def read_done(folder: Path) -> dict[str, Row]:
    """Path -> row of every phantom that is listed and has its files; empty without a list."""
    try:
        table = read_parquet(folder / CAPTIONS)
    except (OSError, pa.ArrowException):
        return {}
    if not table.schema.equals(COLUMNS):
        return {}
    return {
        row["path"]: row
        for row in table.to_pylist()
        if all(_is_whole(folder / name) for name in files(row["kind"], row["path"]))
    }


def write_done(folder: Path, rows: Mapping[str, Row]) -> None:
    """List the phantoms that are done.

    Raises:
        OSError: the disk is full or does not let itself be written to.
    """
    table = pa.Table.from_pylist([dict(rows[path]) for path in sorted(rows)], schema=COLUMNS)
    with replacing(folder / CAPTIONS) as temporary:
        pq.write_table(table, temporary)


def rows_of(
    phantoms: PhantomSet, drawn: Iterable[Place], captions: Iterable[str]
) -> dict[str, Row]:
    """Path -> row of phantoms that have just been drawn."""
    return {
        place.path: {
            "path": place.path,
            "split": place.split,
            "class": place.label,
            "caption": caption,
            "seed": phantoms.seed,
            "index": place.index,
            "kind": phantoms.kind,
        }
        for place, caption in zip(drawn, captions, strict=True)
    }


def place_of(row: Row) -> Place:
    """The phantom of a row."""
    return Place(row["path"], row["split"], row["class"], row["index"])


def _is_whole(path: Path) -> bool:
    """Whether there is a file, and more than the empty one that a power cut may leave."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
