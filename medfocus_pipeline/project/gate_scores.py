"""What every method of the gate's table said of every image, written down and read again."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from medfocus_pipeline.evaluation.gate import (
    TEST,
    TRAIN,
    VALIDATION,
    GateData,
    MethodReport,
    reported,
)
from medfocus_pipeline.files import disk_errors
from medfocus_pipeline.project.gate_table import GateTable
from medfocus_pipeline.sealed import present
from medfocus_pipeline.sealed_tables import read_table, write_table

SCORES = "gate.parquet"


def write_scores(folder: Path, table: GateTable, reports: Sequence[MethodReport]) -> Path:
    """Write a row for every method and image.

    Raises:
        StoreError: the disk is full or read-only.
    """
    data, count = table.data, len(table.image_ids)
    split = np.full(count, "", np.object_)
    for name, rows in data.splits.items():
        split[rows] = name
    written = pa.concat_tables(
        pa.table(
            {
                "method": [one.name] * count,
                "image_id": list(table.image_ids),
                "split": split,
                "medical": data.medical,
                "score": one.scores,
                "predicted_medical": one.predicted,
                "threshold": [one.threshold] * count,
                "learns_from": [one.learns_from] * count,
                "chosen_on": [one.chosen_on] * count,
            }
        )
        for one in reports
    )
    with disk_errors(folder):
        write_table(folder / SCORES, written, owner=SCORES)
    return folder / SCORES


def read_scores(folder: Path) -> tuple[GateTable, list[MethodReport]] | None:
    """The table as it was written, without features; None where there is none.

    Raises:
        DamagedError: it was changed, or is of another version.
    """
    if not present(folder / SCORES):
        return None
    written = read_table(folder / SCORES, owner=SCORES)
    if "chosen_on" not in written.column_names:
        return None  # of an earlier version, which kept no thresholds
    count = len(written) // len(set(written["method"].to_pylist()))
    first = written.slice(0, count)
    splits = np.array(first["split"].to_pylist())
    parts = {name: np.flatnonzero(splits == name) for name in (TRAIN, VALIDATION, TEST)}
    medical = np.array(first["medical"].to_pylist(), np.bool_)
    data = GateData(
        np.empty((0, 0, 0), np.float32),
        medical,
        {name: rows for name, rows in parts.items() if len(rows)},
    )
    reports = []
    for start in range(0, len(written), count):
        own = written.slice(start, count)
        facts = own.slice(0, 1).to_pylist()[0]
        scores = np.array(own["score"].to_pylist(), np.float64)
        told = (facts["method"], facts["learns_from"], scores)
        reports.append(
            reported(data, *told, threshold=facts["threshold"], chosen_on=facts["chosen_on"])
        )
    return GateTable(data, tuple(first["image_id"].to_pylist()), None), reports
