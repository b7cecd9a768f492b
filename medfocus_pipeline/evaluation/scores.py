"""Results with the scores that are asked for, computed from the stored predictions."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from medfocus_pipeline.columns import score_array
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.metrics import METRICS, ON_CLEAN, find, measure
from medfocus_pipeline.evaluation.predictions import read_predictions

TABLE = ("accuracy", "accuracy" + ON_CLEAN)
"""What the results table shows."""

ALL = (*TABLE, *(name for name in METRICS if name != "accuracy"))


def read_scored(folder: Path, names: Sequence[str] = ALL) -> pa.Table:
    """All results of a folder with their scores, see `scored`."""
    return scored(results.read(folder), results.read(folder, "predictions"), names)


def scored(runs: pa.Table, predictions: pa.Table, names: Sequence[str] = ALL) -> pa.Table:
    """Results with one more column a score: float64, null where it is not defined.

    Args:
        runs: rows of `results.RESULTS`.
        predictions: of these runs at least.
        names: of `METRICS`; with ``_clean`` behind it, only of test images that are not among
            the training images.

    Raises:
        ConfigError: there is no such metric.
        StoreError: a run has no predictions.
    """
    for name in names:
        find(name.removesuffix(ON_CLEAN))
    keys = runs["run_key"].to_pylist()
    found = read_predictions(predictions, keys)
    whole = [found[key] for key in keys]
    clean = [one.on_clean() for one in whole]
    for name in names:
        own = clean if name.endswith(ON_CLEAN) else whole
        values = [measure(name.removesuffix(ON_CLEAN), one) for one in own]
        runs = runs.append_column(name, score_array(values))
    return runs
