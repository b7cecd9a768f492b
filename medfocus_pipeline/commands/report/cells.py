"""How a few rows of a report err: confusion, recalls, reliability, and the surest mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medfocus_pipeline.commands.report.opened import Opened
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.diagnostics import class_recalls, confusion_matrix, reliability
from medfocus_pipeline.evaluation.metrics import mean_score
from medfocus_pipeline.evaluation.predictions import read_predictions
from medfocus_pipeline.evaluation.runs import PlannedRun
from medfocus_pipeline.report.content import RowDetail
from medfocus_pipeline.report.score_table import heading


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


def cells(opened: Opened) -> list[RowDetail]:
    """The best row, the reference and the paper's method, each once."""
    rows, n_classes = opened.rows, len(opened.dataset.manifest.classes)
    wanted = [rows.ranked[0], rows.reference(), rows.ours()]
    chosen = {row.label: row for row in wanted if row is not None}
    keys = {run.key for row in chosen.values() for run in rows.runs(row)}
    answers = read_predictions(results.read(opened.context.folder / "results", "predictions"), keys)
    found = []
    for label, row in chosen.items():
        own = [answers[run.key] for run in rows.runs(row)]
        found.append(
            RowDetail(
                label=label,
                budget=heading(rows.budget),
                confusion=confusion_matrix(own, n_classes=n_classes),
                recalls=class_recalls(own, n_classes=n_classes),
                bins=reliability(own),
                auroc=mean_score("auroc", own),
                calibration_error=mean_score("ece", own),
            )
        )
    return found


def surest_mistakes(folder: Path, runs: Sequence[PlannedRun]) -> tuple[list[Wrong], int]:
    """The wrong answers of a row's first seed, the most confident first, each picture once.

    Returns:
        The answers, and how many images were tested.
    """
    run = min(runs, key=lambda run: run.seed)
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
