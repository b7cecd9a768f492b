"""The results of stage two on disk: one row a run, its predictions, and the subsets by id."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medfocus_pipeline.columns import id_array
from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.errors import DamagedError
from medfocus_pipeline.evaluation.statistics import Result, budget_of
from medfocus_pipeline.files import disk_errors
from medfocus_pipeline.sealed import present
from medfocus_pipeline.sealed_tables import read_table, write_table

RESULTS = pa.schema(
    [
        ("run_key", pa.string()),
        ("dataset", pa.string()),
        ("segmenter", pa.string()),
        ("roi", pa.string()),
        ("focus", pa.string()),
        ("encoder", pa.string()),
        ("head", pa.string()),
        ("fraction", pa.float64()),
        ("shots", pa.int32()),
        ("seed", pa.int32()),
        ("n_train", pa.int32()),
        ("n_test", pa.int32()),
        ("n_test_clean", pa.int32()),
        ("seconds", pa.float64()),
        ("chosen", pa.string()),
        ("subset_key", pa.string()),
        ("masks_key", pa.string()),
        ("embedding_keys", pa.string()),
        ("text_key", pa.string()),
    ]
)
"""One row a run. ``fraction`` is in percent, null for a run by shots, and the other way round.
Scores are computed from `PREDICTIONS`, see `evaluation.scores`. ``focus`` joins its modes with
``+``, ``embedding_keys`` with a comma; ``chosen`` is JSON; ``seconds`` is the fit's, shared by runs
that share one."""

ADAPTATION = pa.schema(
    [
        ("run_key", pa.string()),
        ("method", pa.string()),
        ("source", pa.string()),
        ("target", pa.string()),
        ("encoder", pa.string()),
        ("focus", pa.string()),
        ("fraction", pa.float64()),
        ("seed", pa.int32()),
        ("n_train", pa.int32()),
        ("n_target", pa.int32()),
        ("n_test", pa.int32()),
        ("distance", pa.float64()),
        ("seconds", pa.float64()),
        ("chosen", pa.string()),
        ("subset_key", pa.string()),
    ]
)
"""One row a run of a study: a method from a source domain, or several joined with ``+``, to a
target. ``distance`` is the proxy A-distance of source and target as the method's classifier sees
them, of seed 0; null where that is the features themselves, whose distance ``source`` has."""

PREDICTIONS = pa.schema(
    [
        ("run_key", pa.string()),
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("clean", pa.bool_()),
        ("class_index", pa.int32()),
        ("class_name", pa.string()),
        ("predicted", pa.int32()),
        ("predicted_name", pa.string()),
        ("probabilities", pa.list_(pa.float32())),
    ]
)
"""One row for each run and test image; ``path`` is the image's when the run was made;
names are null in a file from before they were kept."""

SUBSETS = pa.schema(
    [
        ("subset_key", pa.string()),
        ("image_ids", pa.list_(pa.string())),
    ]
)
"""The training images of each subset that a result names, so that anyone can run it again."""

Runs: TypeAlias = Literal["results", "adaptation"]
"""The files of runs: those of a data set, and those of a study."""

Kind: TypeAlias = Literal["subsets", "predictions"] | Runs

FILES: dict[Kind, pa.Schema] = {
    "subsets": SUBSETS,
    "predictions": PREDICTIONS,
    "results": RESULTS,
    "adaptation": ADAPTATION,
}

_NEWER = ("class_name", "predicted_name")
"""Columns that older files lack."""

_AGAIN = (
    "Run: medfocus cache verify --repair, which removes it, then: make probe, of a study make adapt"
)


def read(folder: Path, name: Kind = "results") -> pa.Table:
    """A results file; empty if there is none yet.

    Args:
        name: ``results``, ``predictions`` or ``subsets``; of a study ``adaptation``.

    Raises:
        DamagedError: the file was changed, or is of another version.
        AccessError: it cannot be read now.
    """
    path, schema = folder / f"{name}.parquet", FILES[name]
    if not present(path):
        return pa.Table.from_batches([], schema)  # empty_table() imports pandas: half a second
    try:
        table = read_table(path, owner=name)
    except DamagedError as error:
        raise DamagedError(f"{error}. {_AGAIN}") from error
    return _current(table, schema, path)


def _current(table: pa.Table, schema: pa.Schema, path: Path) -> pa.Table:
    """The columns of this version; a file from before it has scores, and no names of classes."""
    columns: list[pa.ChunkedArray | pa.Array | None] = []
    for field in schema:
        known = field.name in table.column_names
        newer = pa.nulls(len(table), field.type) if field.name in _NEWER else None
        columns.append(table[field.name] if known else newer)
    found = [None if column is None else column.type for column in columns]
    if found != schema.types:
        raise DamagedError(f"{path} is of another version. {_AGAIN}")
    return pa.table(columns, schema=schema)


def predictions_of(folder: Path, run_key: str) -> list[dict[str, Any]]:
    """The rows of `PREDICTIONS` of one run, in their order; none of an unknown run.

    Raises:
        StoreError: the file is damaged or of another version.
    """
    table = read(folder, "predictions")
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["run_key"], run_key)).to_pylist()
    return rows


def append(
    folder: Path,
    *,
    results: Sequence[Mapping[str, Any]],
    predictions: pa.Table,
    subsets: Sequence[Mapping[str, Any]],
    name: Runs = "results",
) -> None:
    """Add runs; one of a key that is there already replaces it.

    The results are written last: a run is done when, and only when, its row is there.
    Predictions of runs that never got their row are dropped.

    Args:
        subsets: one for each run; those of one key are one row.
        name: of the file of the runs.

    Raises:
        StoreError: the disk is full.
    """
    added = pa.Table.from_pylist(list(results), schema=FILES[name])
    distinct = {row["subset_key"]: row for row in subsets}
    known = pa.Table.from_pylist(list(distinct.values()), schema=SUBSETS)
    new = set(added["run_key"].to_pylist())
    merged = pa.concat_tables([_rows(read(folder, name), "run_key", without=new), added])
    runs = set(merged["run_key"].to_pylist())
    kept = _rows(read(folder, "predictions"), "run_key", within=runs, without=new)
    listed = set(known["subset_key"].to_pylist())
    all_subsets = pa.concat_tables(
        [_rows(read(folder, "subsets"), "subset_key", without=listed), known]
    )
    tables = {
        "subsets": all_subsets,
        "predictions": pa.concat_tables([kept, predictions]),
        name: merged,
    }
    with disk_errors(folder):
        for file, table in tables.items():
            write_table(folder / f"{file}.parquet", table, owner=file)


def _rows(
    table: pa.Table, column: str, *, without: Set[str], within: Set[str] | None = None
) -> pa.Table:
    def among(keys: Set[str]) -> pa.ChunkedArray:
        return pc.is_in(table[column], id_array(sorted(keys)))

    kept = pc.invert(among(without))
    return table.filter(kept if within is None else pc.and_(kept, among(within)))


@dataclass(frozen=True, slots=True)
class BudgetScore:
    """One cell of the results table: all seeds of a head at one fraction, or number of shots.

    Attributes:
        mean, spread: of the accuracy over seeds; the spread is the standard deviation
            (ddof 1), 0 with one seed.
        clean, clean_spread: the same on the clean test images; nan without any.
        runs: number of seeds.
    """

    mean: float
    spread: float
    clean: float
    clean_spread: float
    runs: int


def summarise(runs: Iterable[Result]) -> dict[Budget, BudgetScore]:
    """Accuracy over seeds, by budget.

    Args:
        runs: rows with the scores of the table, see `evaluation.scores`, that differ in budget and
            seed only.
    """
    groups: dict[Budget, list[tuple[float, float]]] = {}
    for row in runs:
        clean = row["accuracy_clean"]
        scores = (row["accuracy"], np.nan if clean is None else clean)
        groups.setdefault(budget_of(row), []).append(scores)
    return {place: _cell(np.array(scores)) for place, scores in groups.items()}


def _cell(scores: np.ndarray[Any, np.dtype[np.float64]]) -> BudgetScore:
    mean, clean = scores.mean(axis=0)
    spread, clean_spread = scores.std(axis=0, ddof=1) if len(scores) > 1 else (0.0, 0.0)
    return BudgetScore(float(mean), float(spread), float(clean), float(clean_spread), len(scores))
