"""One store on disk: ``data.zarr`` (a Zarr v3 group of row arrays), its index, ``store.json``.

A shard is one Zarr chunk of every array. It is always written whole, by one writer:
zarr-python reads, changes and writes back a chunk that is written in part, so that two
partial writes into one chunk would lose data.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.files import disk_errors, flush, replacing
from medfocus_pipeline.stores.index import Index, Part, part_path, read_index, write_part
from medfocus_pipeline.stores.keys import Recipe, digest
from medfocus_pipeline.types import JSON

log = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[Any]]

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


@dataclass(frozen=True, slots=True)
class Store:
    """A store that exists on disk and is what its ``store.json`` says.

    Attributes:
        shard_rows: rows of a full shard; a shard may hold fewer.
        revision: commit of the hub model that made it, if any.
    """

    path: Path
    recipe: Recipe
    shard_rows: int
    revision: str | None = None

    @property
    def key(self) -> str:
        """The recipe's key."""
        return self.recipe.key

    @property
    def data(self) -> Path:
        """The Zarr group."""
        return self.path / "data.zarr"

    def part_path(self, shard: int) -> Path:
        """Where the index part of a shard is."""
        return part_path(self.path, shard)

    def index(self) -> Index:
        """What is done, read from Parquet alone."""
        return read_index(self.path)

    def read(self, part: Part, *, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
        """The rows of one shard, in the order of `part.image_ids`, checked.

        Args:
            names: arrays to return; all of them are read and checked in any case.

        Raises:
            StoreError: the data is not what was written.
        """
        import zarr

        first = part.shard * self.shard_rows
        rows = slice(first, first + part.table.num_rows)
        try:
            group = zarr.open_group(self.data, mode="r")
            arrays = {name: np.asarray(array[rows]) for name, array in group.arrays()}
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise self._corrupt(part.shard, f"it cannot be read ({error})") from error
        if checksum(arrays) != part.checksum:
            raise self._corrupt(part.shard, "its data does not match its checksum")
        return arrays if names is None else {name: arrays[name] for name in names}

    def write(
        self,
        shard: int,
        image_ids: Sequence[str],
        arrays: Arrays,
        columns: Mapping[str, pa.Array],
    ) -> None:
        """Write one whole shard, data first, then its index part.

        Args:
            arrays: array name -> ``(len(image_ids), *spec.shape)``.
            columns: the stage's own index columns.

        Raises:
            StoreError: the disk is full, or a value is not finite.
        """
        import zarr

        count, first = len(image_ids), shard * self.shard_rows
        files: dict[str, int] = {}
        with disk_errors(self.path):
            for name, rows in arrays.items():
                if not np.isfinite(rows).all():
                    raise StoreError(f"{self.path.name}: {name} of shard {shard} is not finite.")
                # Chunks of zeros must exist too: their files are what says that they are whole.
                array = zarr.open_array(self.data / name, mode="r+")
                array = array.with_config({"write_empty_chunks": True})
                block = np.zeros((self.shard_rows, *array.shape[1:]), array.dtype)
                block[:count] = rows
                array[first : first + self.shard_rows] = block
                chunk = array.metadata.encode_chunk_key((shard, *([0] * (array.ndim - 1))))
                data = self.data / name / chunk
                flush(data)
                files[str(data.relative_to(self.path))] = data.stat().st_size
            write_part(
                self.path,
                shard,
                image_ids=image_ids,
                first_row=first,
                columns=columns,
                checksum=checksum(arrays),
                files=files,
            )

    def reserve(self, shards: int) -> None:
        """Make the arrays long enough for shards 0 .. shards - 1; never shortens them."""
        import zarr

        with disk_errors(self.path):
            group = zarr.open_group(self.data, mode="r+")
            for _, array in group.arrays():
                if array.shape[0] < shards * self.shard_rows:
                    array.resize((shards * self.shard_rows, *array.shape[1:]))

    def drop(self, shards: Iterable[int]) -> None:
        """Forget shards: their rows count as missing from now on."""
        for shard in shards:
            self.part_path(shard).unlink(missing_ok=True)

    def verify(self) -> dict[int, str]:
        """Read everything; shard number -> what is wrong with it."""
        index = self.index()
        wrong = dict(index.damaged)
        for shard, part in index.parts.items():
            try:
                self.read(part)
            except StoreError as error:
                wrong[shard] = str(error)
        return wrong

    def _corrupt(self, shard: int, why: str) -> StoreError:
        return StoreError(
            f"Shard {shard} of store {self.path.name} is corrupt: {why}. "
            "Run: medfocus cache verify --repair, then the stage again."
        )


def checksum(arrays: Arrays) -> str:
    """SHA-256 over the arrays of a shard, by name: name, dtype, shape, C-order bytes."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        rows = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {rows.dtype.str} {rows.shape}\n".encode())
        total.update(rows.data)
    return total.hexdigest()


def create(
    path: Path,
    recipe: Recipe,
    specs: Sequence[ArraySpec],
    *,
    shard_rows: int,
    revision: str | None = None,
) -> Store:
    """Make an empty store, or open the one that is there.

    Raises:
        StoreError: what is there is of another recipe or schema.
    """
    if (path / "store.json").exists():
        return open_store(path, expected=recipe)
    import zarr
    from zarr.codecs import ZstdCodec

    with disk_errors(path.parent):
        group = zarr.create_group(path / "data.zarr", zarr_format=3, overwrite=True)
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
        described: JSON = {
            "key": recipe.key,
            "recipe": recipe.as_json(),
            "revision": revision,
            "shard_rows": shard_rows,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "packages": {name: version(name) for name in _PACKAGES if _installed(name)},
        }
        with replacing(path / "store.json") as temporary:
            temporary.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    return Store(path, recipe, shard_rows, revision)


def open_store(path: Path, *, expected: Recipe | None = None) -> Store:
    """Open a store that exists.

    Raises:
        StoreError: it is not a store, or its schema version, key or recipe do not fit.
    """
    try:
        described = json.loads((path / "store.json").read_text(encoding="utf-8"))
        recipe = Recipe(**described["recipe"])
        shard_rows = int(described["shard_rows"])
        recorded, revision = described["key"], described["revision"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is not a MedFocus store ({error}). Remove it and run again."
        ) from error
    if digest(described["recipe"]) != recorded:
        raise StoreError(
            f"{path}/store.json was changed after it was written: its key is {recorded[:8]}, "
            f"its recipe's is {recipe.key[:8]}. Remove the store and run the stage again."
        )
    if expected is not None and recipe.version != expected.version:
        raise StoreError(
            f"Store {path.name} has schema version {recipe.version}, this MedFocus writes "
            f"{expected.version}. Run: medfocus cache prune, then the stage again."
        )
    if expected is not None and recipe.key != expected.key:
        raise StoreError(
            f"Store {path.name} has key {recipe.key[:8]}, expected {expected.key[:8]}. "
            "Remove it and run the stage again."
        )
    return Store(path, recipe, shard_rows, revision)


def remove_partial_files(path: Path) -> None:
    """Remove what a killed writer left behind; call it with the writer's lock held."""
    for leftover in path.rglob("*.partial"):
        leftover.unlink(missing_ok=True)


def _installed(name: str) -> bool:
    from importlib.metadata import PackageNotFoundError

    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
