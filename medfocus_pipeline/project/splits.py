"""The published split and subsets of a data set: JSON that anyone can read a run from."""

import json
from collections.abc import Sequence
from pathlib import Path

from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.evaluation.runs import Run
from medfocus_pipeline.files import disk_errors, write_text
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.types import JSON


def publish(folder: Path, dataset: Dataset, split: Split, runs: Sequence[Run]) -> None:
    """Write ``split.json`` and one file a budget; what is there already is left alone.

    Args:
        folder: ``<cache>/<dataset>/splits``.
        runs: of one head; those of other heads have the same subsets.
    """
    ids, labels = dataset.manifest.image_ids, dataset.manifest.labels
    classes = dataset.manifest.classes

    def named(rows: Sequence[int]) -> dict[str, str]:
        return {ids[row]: classes[labels[row]] for row in rows}

    texts: dict[str, JSON] = {
        "split": {"train": named(split.train.tolist()), "test": named(split.test.tolist())}
    }
    for run in runs:
        subset = [ids[row] for row in split.train[run.subset]]
        texts.setdefault(budget_name(run.budget), {})[str(run.seed)] = sorted(subset)
    with disk_errors(folder):
        for name, value in texts.items():
            write_text(folder / f"{name}.json", json.dumps(value, indent=1) + "\n")


def budget_name(budget: Budget) -> str:
    """``fraction-5`` or ``shots-4``."""
    kind, amount = budget
    return f"{kind}-{amount:g}"
