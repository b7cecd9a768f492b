"""How a few rows of a report err: confusion, recalls, reliability, and the surest mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medfocus_pipeline.commands.report.rows import Rows, Standing
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.diagnostics import (
    class_recalls,
    confusion_matrix,
    read_answers,
    reliability,
)
from medfocus_pipeline.evaluation.metrics import NAN
from medfocus_pipeline.report.content import Cell
from medfocus_pipeline.report.table import heading


@dataclass(frozen=True, slots=True)
class Wrong:
    """One wrong answer.

    Attributes:
        path: of the image when the run was made.
        label, predicted: class indices.
        probabilities: of the K classes, in [0, 1].
    """

    image_id: str
    path: str
    label: int
    predicted: int
    probabilities: Sequence[float]


def cells(folder: Path, rows: Rows, *, classes: Sequence[str]) -> list[Cell]:
    """The best row, the reference and the paper's method, each once.

    Args:
        folder: of the results.
        classes: names of the K classes.
    """
    wanted = [rows.standings[0], rows.reference(), rows.ours()]
    chosen = {one.label: one for one in wanted if one is not None}
    table = {row["run_key"]: row for row in results.read(folder).to_pylist()}
    keys = {run.key for one in chosen.values() for run in one.runs}
    answers = read_answers(results.read(folder, "predictions"), keys)
    found = []
    for label, one in chosen.items():
        own = [answers[run.key] for run in one.runs]
        scores = [table[run.key] for run in one.runs]
        found.append(
            Cell(
                label=label,
                budget=heading(one.budget),
                confusion=confusion_matrix(own, n_classes=len(classes)),
                recalls=class_recalls(own, n_classes=len(classes)),
                bins=reliability(own),
                auroc=_mean(scores, "auroc"),
                calibration_error=_mean(scores, "ece"),
            )
        )
    return found


def surest_mistakes(folder: Path, one: Standing) -> tuple[list[Wrong], int]:
    """The wrong answers of the row's first seed, the most confident first, each picture once.

    Returns:
        The answers, and how many images were tested.
    """
    run = min(one.runs, key=lambda run: run.seed)
    answers = results.predictions_of(folder, run.key)
    wrong = [
        Wrong(
            row["image_id"], row["path"], row["class_index"], row["predicted"], row["probabilities"]
        )
        for row in answers
        if row["class_index"] != row["predicted"]
    ]
    wrong.sort(key=lambda each: (-each.probabilities[each.predicted], each.image_id))
    distinct = {each.image_id: each for each in reversed(wrong)}
    return [each for each in wrong if distinct[each.image_id] is each], len(answers)


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    known = [row[name] for row in rows if row[name] is not None]
    return float(np.mean(known)) if known else NAN
