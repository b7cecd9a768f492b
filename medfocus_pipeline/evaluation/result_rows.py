"""From a run's outcome to its rows in the results files."""

import json

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medfocus_pipeline.evaluation.results import PREDICTIONS
from medfocus_pipeline.evaluation.runs import Outcome, PlannedRun
from medfocus_pipeline.features import FeatureTable
from medfocus_pipeline.types import JSON


def result_row(table: FeatureTable, outcome: Outcome) -> JSON:
    """The row of `results.RESULTS`."""
    run, keys = outcome.run, table.keys
    kind, amount = run.budget
    return {
        "run_key": run.key,
        "dataset": table.dataset,
        "segmenter": keys.segmenter,
        "roi": keys.roi,
        "focus": "+".join(run.focus),
        "encoder": keys.encoder,
        "head": run.head.name,
        "fraction": float(amount) if kind == "fraction" else None,
        "shots": int(amount) if kind == "shots" else None,
        "seed": run.seed,
        "n_train": len(run.subset),
        "n_test": len(table.test),
        "n_test_clean": int(table.clean.sum()),
        "seconds": outcome.seconds,
        "chosen": json.dumps(outcome.chosen, sort_keys=True),
        "subset_key": run.subset_key,
        "masks_key": keys.masks_key,
        "embedding_keys": ",".join(keys.embed_keys),
        "text_key": keys.text_key,
    }


def subset_row(table: FeatureTable, run: PlannedRun) -> JSON:
    """The row of `results.SUBSETS`."""
    ids = [table.image_ids[row] for row in table.train[run.subset]]
    return {"subset_key": run.subset_key, "image_ids": ids}


def prediction_rows(
    table: FeatureTable, run_key: str, probabilities: NDArray[np.floating]
) -> pa.Table:
    """The rows of `results.PREDICTIONS`, one for each test image; probabilities are ``(n, K)``."""
    labels, predicted = table.labels[table.test], probabilities.argmax(axis=1)
    columns = {
        "run_key": [run_key] * len(table.test),
        "image_id": [table.image_ids[row] for row in table.test],
        "path": [table.paths[row] for row in table.test],
        "clean": table.clean,
        "class_index": labels.astype(np.int32),
        "class_name": [table.classes[label] for label in labels],
        "predicted": predicted.astype(np.int32),
        "predicted_name": [table.classes[label] for label in predicted],
        "probabilities": list(probabilities.astype(np.float32)),
    }
    return pa.table(columns, schema=PREDICTIONS)
