"""The manifest: the Parquet table of one data set's images, one row a file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from medfocus_pipeline.columns import blank, is_empty, kept, numbers, row_array, whole
from medfocus_pipeline.datasets.image_paths import Files
from medfocus_pipeline.datasets.manifest_columns import COLUMNS, NOT_MEDICAL, ROW, SCHEMA_VERSION
from medfocus_pipeline.errors import DamagedError
from medfocus_pipeline.ids import groups
from medfocus_pipeline.sealed import present
from medfocus_pipeline.sealed_tables import SealedTable, write_table
from medfocus_pipeline.types import IntArray

_OWNER = "manifest"

_VERSION, _DATASET, _CLASSES, _CARD, _SOURCE, _GATE, _INPUTS = (
    b"medfocus.schema_version",
    b"medfocus.dataset",
    b"medfocus.classes",
    b"medfocus.from_card",
    b"medfocus.source",
    b"medfocus.gate",
    b"medfocus.inputs",
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One data set's images, sorted by path.

    Attributes:
        rows: as `COLUMNS` describes, with name, classes and version in the metadata: a table, or
            a file of which few columns are ever read.
    """

    rows: pa.Table | SealedTable

    def __len__(self) -> int:
        """Number of rows, n, usable or not."""
        return int(self.rows.num_rows)

    @property
    def table(self) -> pa.Table:
        """All rows and columns."""
        return self.rows.whole() if isinstance(self.rows, SealedTable) else self.rows

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of `COLUMNS`."""
        return self.rows[name]

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self._metadata(_DATASET).decode()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes, in the order of the class index."""
        return tuple(json.loads(self._metadata(_CLASSES)))

    @property
    def source(self) -> str:
        """The folder or CSV that was scanned, resolved, and where its images are."""
        return self._metadata(_SOURCE).decode("utf-8", "surrogateescape")

    @property
    def from_card(self) -> bool:
        """Whether a card named the classes, not the folders or labels."""
        return bool(json.loads(self._metadata(_CARD)))

    @property
    def gate(self) -> str:
        """Key of the gate that gave the scores; empty without one."""
        return self._metadata(_GATE, b"").decode()

    @property
    def inputs(self) -> str:
        """Digest of what the scan of a folder depended on; empty where it is not known."""
        return self._metadata(_INPUTS, b"").decode()

    def with_inputs(self, digest: str) -> "Manifest":
        """The manifest with that digest, or without one if it is empty; itself if it has it."""
        if digest == self.inputs:
            return self
        metadata = {**self.rows.schema.metadata, _INPUTS: digest.encode()}
        if not digest:
            del metadata[_INPUTS]
        return Manifest(self.table.replace_schema_metadata(metadata))

    @property
    def gate_scores(self) -> dict[str, tuple[float, str]]:
        """Image id -> score of the gate and the modality, of the images that it looked at."""
        scores = self.column("gate_score").to_pylist()
        columns = (self.image_ids, scores, self.strings("looks_like"))
        rows = zip(*columns, strict=True)
        return {name: (score, like) for name, score, like in rows if score is not None}

    @property
    def refused(self) -> dict[str, float]:
        """Path -> score of what the gate takes for no medical images, the lowest first."""
        pairs = zip(self.paths, self.column("gate_score").to_pylist(), strict=True)
        found = {path: score for path, score in pairs if score is not None and score < 0}
        return dict(sorted(found.items(), key=lambda pair: pair[1]))

    @property
    def image_ids(self) -> list[str]:
        """SHA-256 of each file; files of equal bytes share it."""
        return self.strings("image_id")

    @property
    def paths(self) -> list[str]:
        """Path of each file, relative to the data folder."""
        return self.strings("path")

    @property
    def labels(self) -> IntArray:
        """``(n,) int64`` class index, -1 where unknown."""
        return numbers(self.column("class_index")).astype(np.int64)

    @property
    def usable(self) -> IntArray:
        """Row numbers of the images without a problem, ascending."""
        return np.flatnonzero(is_empty(self.column("problem")))

    @property
    def patients(self) -> dict[str, str]:
        """Image id -> patient, empty where it is not known."""
        return dict(zip(self.image_ids, self.strings("group"), strict=True))

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Path and problem of every row that has one."""
        wrong = row_array(np.flatnonzero(~is_empty(self.column("problem"))))
        if not len(wrong):
            return []
        texts = (self.column(name).take(wrong).to_pylist() for name in ("path", "problem"))
        return list(zip(*texts, strict=True))

    @property
    def files(self) -> Files:
        """Usable image id -> path of the first file with these bytes: the work of stage one."""
        ids, usable = whole(self.column("image_id")), self.usable
        rows = usable[groups(kept(ids, usable))[0]]
        return Files(kept(ids, rows), lambda: kept(self.column("path"), rows))

    def says(self, other: "Manifest", *, inputs: bool = True) -> bool:
        """Whether both say the same of the same images.

        Args:
            inputs: False leaves the digest out.
        """
        left_out = () if inputs else (_INPUTS,)
        mine, others = (
            {key: text for key, text in one.rows.schema.metadata.items() if key not in left_out}
            for one in (self, other)
        )
        same = mine == others and len(self) == len(other)
        return same and all(self.column(name).equals(other.column(name)) for name in COLUMNS.names)

    def with_problems(self, problems: Mapping[str, str]) -> "Manifest":
        """The manifest with problems that showed after the scan.

        Args:
            problems: image id -> why the image cannot be used.
        """
        pairs = zip(self.image_ids, self.strings("problem"), strict=True)
        texts = [problems.get(image_id, problem) for image_id, problem in pairs]
        return self._with(self.gate, {"problem": texts})

    def gated(
        self, gate: str, found: Mapping[str, tuple[float, str]], problems: Mapping[int, str]
    ) -> "Manifest":
        """The manifest with what a gate says.

        Args:
            gate: its key.
            found: image id -> score and modality.
            problems: row -> why the image is left out; a problem that the row has stays.
        """
        old = self.strings("problem")
        ids = self.image_ids
        changes: dict[str, Sequence[object]] = {
            "problem": [old[row] or problems.get(row, "") for row in range(len(self))],
            "gate_score": [found[name][0] if name in found else None for name in ids],
            "looks_like": [found[name][1] if name in found else "" for name in ids],
        }
        return self._with(gate, changes)

    def ungated(self) -> "Manifest":
        """The manifest as it was before a gate looked; itself if none did."""
        if not self.gate:
            return self
        problems = ["" if one.startswith(NOT_MEDICAL) else one for one in self.strings("problem")]
        changes: dict[str, Sequence[object]] = {
            "problem": problems,
            "gate_score": [None] * len(self),
            "looks_like": [""] * len(self),
        }
        return self._with("", changes)

    def _with(self, gate: str, columns: Mapping[str, Sequence[object]]) -> "Manifest":
        table, metadata = self.table, dict(self.table.schema.metadata)
        for name, values in columns.items():
            index, field = table.schema.get_field_index(name), COLUMNS.field(name)
            table = table.set_column(index, field, pa.array(values, field.type))
        metadata.pop(_GATE, None)
        own = {_GATE: gate.encode()} if gate else {}
        return Manifest(table.replace_schema_metadata({**metadata, **own}))

    def strings(self, column: str) -> list[str]:
        """One text column."""
        values: list[str] = self.column(column).to_pylist()
        return values

    def _metadata(self, key: bytes, default: bytes | None = None) -> bytes:
        metadata: dict[bytes, bytes] = self.rows.schema.metadata
        return metadata[key] if default is None else metadata.get(key, default)


def build(
    rows: Sequence[Sequence[object]],
    *,
    name: str,
    classes: Sequence[str],
    from_card: bool,
    source: str = "",
) -> Manifest:
    """A manifest from its rows, each in the order of `ROW`."""
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in ROW]
    table = pa.table(columns, schema=ROW)
    return of_rows(table, name=name, classes=classes, from_card=from_card, source=source)


def of_rows(
    rows: pa.Table, *, name: str, classes: Sequence[str], from_card: bool, source: str = ""
) -> Manifest:
    """A manifest from its rows, as `ROW`, at which no gate has looked."""
    metadata = {
        _VERSION: str(SCHEMA_VERSION).encode(),
        _DATASET: name.encode(),
        _CLASSES: json.dumps(list(classes), ensure_ascii=False).encode(),
        _CARD: json.dumps(from_card).encode(),
        _SOURCE: source.encode("utf-8", "surrogateescape"),
    }
    columns = [*rows.columns, pa.nulls(len(rows), pa.float64()), blank(len(rows))]
    return Manifest(pa.table(columns, schema=COLUMNS.with_metadata(metadata)))


def read(path: Path) -> Manifest:
    """Read a manifest file.

    Raises:
        DamagedError: it is missing, changed or of another schema version; scan the data again.
        AccessError: it cannot be read now.
    """
    again = "Run: medfocus scan, which writes it anew."
    try:
        rows = SealedTable(path, owner=_OWNER)
    except DamagedError as error:
        raise DamagedError(f"The manifest cannot be used: {error}. {again}") from error
    got = (rows.schema.metadata or {}).get(_VERSION, b"none").decode()
    if got != str(SCHEMA_VERSION) or not rows.schema.equals(COLUMNS):
        raise DamagedError(
            f"The manifest {path} has schema version {got}, expected {SCHEMA_VERSION}. {again}"
        )
    return Manifest(rows)


def write(manifest: Manifest, path: Path) -> bool:
    """Write a manifest file, whole or not at all.

    Returns:
        Whether anything was written: an equal file is left alone.
    """
    try:
        if present(path) and read(path).says(manifest):
            return False
    except DamagedError:
        pass  # damaged or of another version: replaced below
    write_table(path, manifest.table, owner=_OWNER)
    return True
