"""Index segments: many parts in one file, so that asking what is done opens few.

A segment holds the parts of `SHARDS` neighbouring shards, those of them that were done when it was
written. It is renamed into place before the parts are removed: a shard that is in both is one
shard, and a reader that looks at the parts first and at the segments then misses none.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from medfocus_pipeline.errors import DamagedError
from medfocus_pipeline.sealed import present
from medfocus_pipeline.sealed_tables import read_table, write_table
from medfocus_pipeline.stores.parts import METADATA, Part, contents
from medfocus_pipeline.types import JSON

SHARDS = 256
"""Of a segment: as much is computed again if one is damaged."""

NAME = re.compile(r"segment-([0-9]{6,})\.parquet")


def segment_of(shard: int) -> int:
    """Number of the segment that a shard goes into."""
    return shard // SHARDS


def segment_path(store: Path, number: int) -> Path:
    """Where a segment is."""
    return store / "index" / f"segment-{number:06d}.parquet"


def write_segment(store: Path, number: int, parts: Iterable[Part], *, key: str) -> None:
    """Write, or replace, a segment by one of these parts; remove it if there are none.

    Args:
        parts: with all their columns.
    """
    path = segment_path(store, number)
    chosen = sorted(parts, key=lambda part: part.shard)
    if not chosen:
        path.unlink(missing_ok=True)
        return
    facts: JSON = {
        "segment": number,
        "shards": [
            {"shard": part.shard, "rows": part.table.num_rows, "files": part.files}
            for part in chosen
        ],
    }
    table = pa.concat_tables([part.table for part in chosen]).combine_chunks()
    table = table.replace_schema_metadata({METADATA: json.dumps(facts).encode()})
    write_table(path, table, owner=_owner(key, number))


def read_segment(
    store: Path, number: int, *, key: str, columns: Sequence[str] | None = None
) -> list[Part]:
    """The parts of a segment, ascending; none if there is no such segment any more.

    Args:
        columns: of their tables; None is all of them.

    Raises:
        DamagedError: it was changed.
        AccessError: it cannot be read now.
    """
    path = segment_path(store, number)
    try:
        table = read_table(path, owner=_owner(key, number), columns=columns)
    except DamagedError:
        if not present(path):
            return []
        raise
    shards = json.loads((table.schema.metadata or {})[METADATA])["shards"]
    table = table.replace_schema_metadata()
    parts, first = [], 0
    for one in shards:
        rows = table.slice(first, one["rows"])
        parts.append(Part(one["shard"], rows, contents(one["files"])))
        first += one["rows"]
    return parts


def _owner(key: str, number: int) -> str:
    return f"{key}/segment-{number}"
