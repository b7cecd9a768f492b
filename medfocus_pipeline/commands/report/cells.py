"""How a few rows of a report err: confusion, recalls, reliability, and the surest mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medfocus_pipeline.commands.report.rows import Rows, Standing
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.answers import read_answers
from medfocus_pipeline.evaluation.diagnostics import (
    class_recalls,
    confusion_matrix,
    reliability,
)
from medfocus_pipeline.evaluation.metrics import mean_score
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
    keys = {run.key for one in chosen.values() for run in one.runs}
    answers = read_answers(results.read(folder, "predictions"), keys)
    found = []
    for label, one in chosen.items():
        own = [answers[run.key] for run in one.runs]
        found.append(
            Cell(
                label=label,
                budget=heading(one.budget),
                confusion=confusion_matrix(own, n_classes=len(classes)),
                recalls=class_recalls(own, n_classes=len(classes)),
                bins=reliability(own),
                auroc=mean_score("auroc", own),
                calibration_error=mean_score("ece", own),
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
