"""Rows of the results files, made up from what each run has right."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from medfocus_pipeline.evaluation.results import PREDICTIONS
from medfocus_pipeline.types import JSON


def result(key: str, seed: int, *, fraction: float | None = 10.0, shots: int | None = None) -> JSON:
    """The columns of a results row that statistics read."""
    return {"run_key": key, "fraction": fraction, "shots": shots, "seed": seed}


def predictions(
    key: str,
    predicted: Sequence[int],
    labels: Sequence[int],
    *,
    ids: Sequence[str] = (),
    clean: Sequence[bool] = (),
    confidence: Sequence[float] = (),
    n_classes: int = 2,
) -> pa.Table:
    """A run's predictions; by default every image is clean and the head is 80 % sure."""
    count = len(labels)
    sure = list(confidence) or [0.8] * count
    probabilities = [
        np.where(np.arange(n_classes) == choice, share, (1 - share) / (n_classes - 1))
        for choice, share in zip(predicted, sure, strict=True)
    ]
    columns = {
        "run_key": [key] * count,
        "image_id": list(ids) or [f"id-{n}" for n in range(count)],
        "path": [f"{n}.png" for n in range(count)],
        "clean": list(clean) or [True] * count,
        "class_index": list(labels),
        "class_name": [f"class {n}" for n in labels],
        "predicted": list(predicted),
        "predicted_name": [f"class {n}" for n in predicted],
        "probabilities": probabilities,
    }
    return pa.table(columns, schema=PREDICTIONS)
