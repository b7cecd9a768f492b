"""Stores as ``store.json`` describes them: making one, and opening one that is there."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from medfocus_pipeline.errors import DamagedError, StoreError
from medfocus_pipeline.files import disk_errors, put, remove_tree
from medfocus_pipeline.sealed import parse_json, present, read_json, write_json
from medfocus_pipeline.stores.keys import Recipe, digest
from medfocus_pipeline.stores.store import FORMAT, Store
from medfocus_pipeline.types import JSON

_PACKAGES = (
    "medfocus-pipeline",
    "numpy",
    "pillow",
    "torch",
    "transformers",
    "timm",
    "sam2",
    "zarr",
)
_ZSTD_LEVEL = 3

_READ = (2, FORMAT)
"""Formats that are read and filled on; 2 has no segments, and is not given any."""

_MOST_FILES = 4096
"""Data files that a store should have at most."""

DESCRIBED = "store.json"
_OWNER = "store"


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One array of a store.

    Attributes:
        shape: of one row.
        dims: names of the row's dimensions, for xarray and for people.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    dims: tuple[str, ...]


def fitting_rows(shard_rows: int, *, rows: int, arrays: int) -> int:
    """Rows a shard, doubled until the files of a collection are not too many.

    Args:
        shard_rows: of a small collection.
        rows: of the collection when its store is made; more may come.
        arrays: of the store, a file each for every shard.
    """
    while -(-rows // shard_rows) * arrays > _MOST_FILES:
        shard_rows *= 2
    return shard_rows


def create(
    path: Path,
    recipe: Recipe,
    specs: Sequence[ArraySpec],
    *,
    shard_rows: int,
    revision: str | None = None,
) -> Store:
    """Make an empty store, or open the one that is there; call it with the store's lock held.

    Raises:
        StoreError: what is there is of another recipe or schema.
    """
    if present(path / DESCRIBED):
        return open_store(path, expected=recipe)
    with disk_errors(path.parent):
        data = path / "data.zarr"
        if present(data):
            remove_tree(data)  # of a store that lost its description
        arrays = _empty(specs, shard_rows)
        for name, content in arrays.items():
            put(data / name, content)
        described: JSON = {
            "format": FORMAT,
            "key": recipe.key,
            "recipe": recipe.as_json(),
            "revision": revision,
            "shard_rows": shard_rows,
            "zarr": {name: json.loads(content) for name, content in arrays.items()},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "packages": {name: found for name, found in versions(_PACKAGES).items() if found},
        }
        write_json(path / DESCRIBED, described, owner=_OWNER)
    return _as_described(path, described)


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of packages, by name; empty where one is not installed."""
    found = dict.fromkeys(packages, "")
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _empty(specs: Sequence[ArraySpec], shard_rows: int) -> dict[str, bytes]:
    """The ``zarr.json`` of a group and of its arrays, by path in the group."""
    import zarr
    from zarr.codecs import ZstdCodec
    from zarr.storage import MemoryStore

    files: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(files), zarr_format=3)
    for spec in specs:
        group.create_array(
            spec.name,
            shape=(0, *spec.shape),
            chunks=(shard_rows, *spec.shape),
            dtype=spec.dtype,
            fill_value=0,
            compressors=ZstdCodec(level=_ZSTD_LEVEL),
            dimension_names=("row", *spec.dims),
        )
    return {name: content.to_bytes() for name, content in files.items()}


def describe(path: Path) -> JSON:
    """What a store's ``store.json`` says.

    Raises:
        DamagedError: it is not a store, or was changed.
        AccessError: it cannot be read now.
        StoreError: it is of another format.
    """
    plain = parse_json(path / DESCRIBED) if present(path / DESCRIBED) else None
    found = plain.get("format", 1) if isinstance(plain, dict) else FORMAT
    if isinstance(plain, dict) and "recipe" in plain and found not in _READ:
        raise StoreError(
            f"Store {path.name} has format {found}, this MedFocus writes {FORMAT}. "
            "Run: medfocus cache prune, then the stage again."
        )
    return read_json(path / DESCRIBED, owner=_OWNER)


def open_store(path: Path, *, expected: Recipe | None = None) -> Store:
    """Open a store that exists.

    Raises:
        DamagedError: it is not a store, or was changed.
        AccessError: it cannot be read now.
        StoreError: its format, schema version, key or recipe do not fit.
    """
    try:
        described = describe(path)
        store = _as_described(path, described)
        right = digest(described["recipe"]) == described["key"]
    except (DamagedError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(
            f"{path} is not a MedFocus store, or was changed after it was written ({error}). "
            "Run: medfocus cache prune, then the stage again."
        ) from error
    recipe = store.recipe
    if not right:
        raise DamagedError(
            f"{path}/store.json was changed after it was written: its key is "
            f"{described['key'][:8]}, its recipe's is {recipe.key[:8]}. "
            "Run: medfocus cache prune, then the stage again."
        )
    if expected is not None and recipe.version != expected.version:
        raise StoreError(
            f"Store {path.name} has schema version {recipe.version}, this MedFocus writes "
            f"{expected.version}. Run: medfocus cache prune, then the stage again."
        )
    if expected is not None and recipe.key != expected.key:
        raise StoreError(
            f"Store {path.name} has key {recipe.key[:8]}, expected {expected.key[:8]}. "
            "Run: medfocus cache prune, then the stage again."
        )
    return store


def _as_described(path: Path, described: JSON) -> Store:
    recipe = Recipe(**described["recipe"])
    return Store(
        path,
        recipe,
        int(described["shard_rows"]),
        described["zarr"],
        described["revision"],
        described["format"],
    )
