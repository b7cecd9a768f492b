"""Beside the table: recalls, confusions, AUROC and calibration of every cell, as JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.diagnostics import class_recalls, confusion_matrix, reliability
from medfocus_pipeline.evaluation.metrics import mean_score
from medfocus_pipeline.evaluation.predictions import Predictions, read_predictions
from medfocus_pipeline.evaluation.runs import PlannedRun
from medfocus_pipeline.files import disk_errors, write_text
from medfocus_pipeline.report.formats import rounded
from medfocus_pipeline.report.score_table import heading
from medfocus_pipeline.types import JSON

FILE = "diagnostics.json"


def write(
    folder: Path, lines: Mapping[str, Sequence[PlannedRun]], *, classes: Sequence[str]
) -> Path:
    """Measures the runs of each line and writes ``diagnostics.json``.

    Args:
        lines: label -> runs, all of which have a result.
    """
    keys = {run.key for runs in lines.values() for run in runs}
    answers = read_predictions(results.read(folder, "predictions"), keys)
    found = {label: _budgets(runs, answers, classes) for label, runs in lines.items() if runs}
    path = folder / FILE
    with disk_errors(folder):
        write_text(path, json.dumps(found, indent=1) + "\n")
    return path


def _budgets(
    runs: Sequence[PlannedRun], answers: Mapping[str, Predictions], classes: Sequence[str]
) -> JSON:
    groups: dict[Budget, list[Predictions]] = {}
    for run in runs:
        groups.setdefault(run.budget, []).append(answers[run.key])
    return {heading(budget): _cell(own, classes) for budget, own in groups.items()}


def _cell(answers: Sequence[Predictions], classes: Sequence[str]) -> JSON:
    recalls = class_recalls(answers, n_classes=len(classes))
    return {
        **{name: rounded(mean_score(name, answers), 6) for name in ("auroc", "ece", "macro_f1")},
        "recall": {
            name: [rounded(one.mean, 6), rounded(one.spread, 6)]
            for name, one in zip(classes, recalls, strict=True)
        },
        "confusion": confusion_matrix(answers, n_classes=len(classes)).tolist(),
        "reliability": [
            [rounded(one.confidence, 6), rounded(one.accuracy, 6), one.count]
            for one in reliability(answers)
            if one.count
        ],
    }
