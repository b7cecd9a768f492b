"""Duplicates across the split, side by side, as the audit found them."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from medfocus_pipeline.commands.audit import Measured
from medfocus_pipeline.commands.report.tiles import Tiles
from medfocus_pipeline.datasets.similarity import HASH_BITS
from medfocus_pipeline.errors import counted
from medfocus_pipeline.report.content import Duplicates, Pair, Tile

_KINDS = {
    "bytes": "equal files",
    "pixels": "equal pixels",
    "perceptual": "perceptual hash",
    "embedding": "embedding",
}


def duplicates(measured: Measured, tiles: Tiles, *, count: int) -> Duplicates:
    """Pairs of a test image and a training image, the surest kind first.

    Args:
        count: pairs that are shown at most, each of another test image.
    """
    rows = _across(measured.pairs)
    shown = []
    for row in _one_each(rows)[:count]:
        first, second = _tile(row, "second", tiles), _tile(row, "first", tiles)
        if first is not None and second is not None:
            shown.append(Pair(_KINDS[row["kind"]], first, second, _detail(row)))
    return Duplicates(_note(measured, rows, len(shown), here=tiles.here), shown)


def _across(pairs: pa.Table) -> list[dict[str, Any]]:
    sides = (pc.equal(pairs["first_split"], "train"), pc.equal(pairs["second_split"], "test"))
    rows: list[dict[str, Any]] = pairs.filter(pc.and_(*sides)).to_pylist()
    order = list(_KINDS)
    return sorted(rows, key=lambda row: (order.index(row["kind"]), row["distance"]))


def _one_each(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first pair of each test file; a reader looks at a picture once."""
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        first.setdefault(row["second_path"], row)
    return list(first.values())


def _tile(row: dict[str, Any], end: str, tiles: Tiles) -> Tile | None:
    picture = tiles.plain(row[f"{end}_image_id"])
    if picture is None:
        return None
    side = {"train": "training", "test": "test"}[row[f"{end}_split"]]
    return Tile(row[f"{end}_path"], row[f"{end}_label"], {f"{side} image": picture}, {"side": side})


def _detail(row: dict[str, Any]) -> str:
    first, second = row["second_label"], row["first_label"]
    classes = f"both {first}" if first == second else f"test says {first}, training says {second}"
    match row["kind"]:
        case "bytes":
            near = "the same bytes"
        case "pixels":
            near = "the same pixels in other files"
        case "perceptual":
            near = f"{row['distance']:.0f} of {HASH_BITS} bits of the hash differ"
        case _:
            near = f"cosine {1 - row['distance']:.4f}"
    return f"{near}; {classes}"


def _note(measured: Measured, rows: Sequence[dict[str, Any]], shown: int, *, here: bool) -> str:
    found, config = measured.found, measured.found.config
    counts = [
        f"{one.test_images:,} by {_KINDS[one.kind]}" for one in found.findings if one.test_images
    ]
    limits = (
        f"Nearly the same is a hash that differs by at most {config.distance} of {HASH_BITS} "
        f"bits, or a cosine of at least {config.cosine:g}: a hint to look, not a proof."
    )
    lacking = f" Embeddings were not compared: {measured.lacking}." if measured.lacking else ""
    if not rows:
        return f"No test image was found in training, not even nearly. {limits}{lacking}"
    pictures = (
        f"{counted(shown, 'pair is', 'pairs are')} shown."
        if here
        else "The images are not on this machine."
    )
    return (
        f"Test images with a copy in training: {', '.join(counts)}. {pictures} {limits}{lacking} "
        "All pairs: audit.parquet in the cache."
    )
