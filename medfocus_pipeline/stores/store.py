"""One store on disk: ``data.zarr`` (a Zarr v3 group of row arrays), its index, ``store.json``.

A shard is one Zarr chunk of every array. It is always written whole, by one writer:
zarr-python reads, changes and writes back a chunk that is written in part, so that two
partial writes into one chunk would lose data.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medfocus_pipeline.errors import DamagedError, StoreError
from medfocus_pipeline.files import disk_errors, put, write_text
from medfocus_pipeline.sealed import parse_json, read_all
from medfocus_pipeline.stores.chunks import decode, encode
from medfocus_pipeline.stores.index import (
    Index,
    Survey,
    compaction,
    drop,
    is_scattered,
    read_index,
    survey,
)
from medfocus_pipeline.stores.keys import Recipe
from medfocus_pipeline.stores.parts import Content, Part, checked, part_path, write_part
from medfocus_pipeline.types import JSON

Arrays = Mapping[str, NDArray[Any]]

FORMAT = 3
"""Of the files of every store, whatever its stage; see ``cache/README.md``."""


@dataclass(frozen=True, slots=True)
class Store:
    """A store that exists on disk and is what its ``store.json`` says.

    Attributes:
        shard_rows: rows of a full shard; a shard may hold fewer.
        zarr: path in the Zarr group -> its description there; arrays have no rows in it.
        revision: commit of the hub model that made it, if any.
        format: of its files.
    """

    path: Path
    recipe: Recipe
    shard_rows: int
    zarr: JSON
    revision: str | None = None
    format: int = FORMAT

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

    def index(self, *, columns: Sequence[str] | None = None) -> Index:
        """What is done, read from Parquet alone.

        Args:
            columns: of the rows; None is all of them, which takes longer.
        """
        return read_index(self.path, key=self.key, columns=columns)

    def survey(self, image_ids: pa.StringArray) -> Survey:
        """What of some rows is done; each id once."""
        return survey(self.path, image_ids, key=self.key)

    def read(self, part: Part, *, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
        """The rows of one shard, in the order of `part.image_ids`, checked.

        Args:
            names: arrays to return; the files of all of them are checked in any case.

        Raises:
            DamagedError: the data is not what was written.
            AccessError: it cannot be read now.
            KeyError: there is no array of a name.
        """
        first = part.shard * self.shard_rows
        rows = slice(first, first + part.table.num_rows)
        wanted = self.arrays if names is None else names
        if problem := self.description_problem():
            raise self._corrupt(part.shard, problem)
        try:
            data = checked(self.path, part)
            return {name: decode(*self._chunks(name, data, rows.stop), rows) for name in wanted}
        except DamagedError as error:
            raise self._corrupt(part.shard, str(error)) from error
        except (RuntimeError, ValueError, TypeError) as error:
            raise self._corrupt(part.shard, f"it cannot be decoded ({error})") from error

    def _chunks(
        self, name: str, data: Mapping[str, bytes], rows: int
    ) -> tuple[JSON, dict[str, bytes]]:
        """The description of an array of so many rows, and of a shard's files those of it."""
        folder = f"{self.data.name}/{name}/"
        chunks = {
            path.removeprefix(folder): content
            for path, content in data.items()
            if path.startswith(folder)
        }
        return self._description(f"{name}/zarr.json", rows), chunks

    @property
    def arrays(self) -> list[str]:
        """Names of the arrays."""
        return [name for path in self.zarr if (name := path.rpartition("/")[0])]

    def row_shape(self, name: str) -> tuple[int, ...]:
        """Shape of one row of an array.

        Raises:
            KeyError: there is no array of that name.
        """
        return tuple(self.zarr[f"{name}/zarr.json"]["shape"][1:])

    def description_problem(self) -> str | None:
        """What is wrong with the descriptions of the arrays, if anything is.

        Raises:
            AccessError: one cannot be read now.
        """
        try:
            contents = read_all(self.data, list(self.zarr))
        except DamagedError as error:
            return str(error)
        for name, content in contents.items():
            if problem := self._described_wrong(name, rows=0, content=content):
                return problem
        return None

    def _described_wrong(self, name: str, *, rows: int, content: bytes | None = None) -> str | None:
        try:
            found = parse_json(self.data / name, content)
        except DamagedError as error:
            return str(error)
        length = 0
        if isinstance(found, dict) and isinstance(found.get("shape"), list) and found["shape"]:
            length = found["shape"][0]
        if found != self._description(name, length):
            return f"{name} in {self.data.name} is not what was written there"
        if "shape" in found and length < rows:
            return f"{name} in {self.data.name} has {length} rows"
        return None

    def _description(self, name: str, rows: int) -> JSON:
        """A ``zarr.json``, of an array with so many rows."""
        described: JSON = self.zarr[name]
        if "shape" not in described:
            return described
        return {**described, "shape": [rows, *described["shape"][1:]]}

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
        for name, values in (*arrays.items(), *_numbers(columns)):
            if not np.isfinite(values).all():
                raise StoreError(
                    f"{self.path.name}: {name} of shard {shard} is not finite. On a GPU run it "
                    "again with --set encoder.precision=fp32; else the weights are at fault: "
                    "medfocus models list"
                )
        first = shard * self.shard_rows
        files: dict[str, Content] = {}
        with disk_errors(self.path):
            for name, rows in arrays.items():
                described = self._description(f"{name}/zarr.json", first + self.shard_rows)
                chunk, content = encode(described, shard, rows)
                data = self.data / name / chunk
                put(data, content)
                files[data.relative_to(self.path).as_posix()] = Content(
                    len(content), hashlib.sha256(content).hexdigest()
                )
            write_part(
                self.path,
                shard,
                key=self.key,
                image_ids=image_ids,
                first_row=first,
                columns=columns,
                files=files,
            )

    def reserve(self, shards: int) -> None:
        """Make the arrays long enough for shards 0 .. shards - 1, and their descriptions right."""
        rows = shards * self.shard_rows
        for name in self.zarr:
            if self._described_wrong(name, rows=rows):
                text = json.dumps(self._description(name, rows), indent=2)
                with disk_errors(self.path):
                    write_text(self.data / name, text + "\n")

    def drop(self, shards: Iterable[int]) -> None:
        """Forget shards: their rows count as missing from now on."""
        with disk_errors(self.path):
            drop(self.path, shards, key=self.key)

    @property
    def is_scattered(self) -> bool:
        """Whether there are index parts enough to be merged; a killed run may leave them."""
        return self.format >= FORMAT and is_scattered(self.path)

    def compact(self) -> None:
        """Merge index parts into segments if there are many; call it with the lock held."""
        if self.format >= FORMAT:
            with disk_errors(self.path):
                for _ in compaction(self.path, key=self.key):
                    pass

    def verify(self) -> dict[int, str]:
        """Read everything; shard number -> what is wrong with it."""
        index = self.index(columns=["image_id"])
        wrong = dict(index.damaged)
        for shard, part in index.parts.items():
            try:
                self.read(part)
            except DamagedError as error:
                wrong[shard] = str(error)
        return wrong

    def _corrupt(self, shard: int, why: str) -> DamagedError:
        return DamagedError(
            f"Shard {shard} of store {self.path.name} is corrupt: {why}. "
            "Run: medfocus cache verify --repair, then the stage again."
        )


def _numbers(columns: Mapping[str, pa.Array]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Columns of floating point numbers, and of lists of such, flat."""
    for name, column in columns.items():
        flat = column.flatten(recursive=True) if pa.types.is_nested(column.type) else column
        if pa.types.is_floating(flat.type):
            yield name, np.from_dlpack(flat)  # not to_numpy(), which imports pandas
