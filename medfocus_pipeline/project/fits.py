"""Stage two of a project, and of a study: the runs that have no result are fitted, and kept."""

import json
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from medfocus_pipeline.config import EngineConfig, ThreadsConfig
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.processes import executor_of
from medfocus_pipeline.evaluation.result_rows import prediction_rows, result_row, subset_row
from medfocus_pipeline.evaluation.runs import Outcome, Run
from medfocus_pipeline.evaluation.sweep import sweep
from medfocus_pipeline.evaluation.transfer import (
    DomainTable,
    Transfer,
    fit_transfer,
    transfer_predictions,
    transfer_rows,
    transfer_subsets,
)
from medfocus_pipeline.features import FeatureTable
from medfocus_pipeline.files import disk_errors, write_text
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.plans import Plan, features
from medfocus_pipeline.project.progress import Advance, Progress
from medfocus_pipeline.sealed import present
from medfocus_pipeline.stores.lock import writing
from medfocus_pipeline.types import JSON

Budgets: TypeAlias = Iterator[list[Outcome]]
"""The outcomes of a row, budget by budget."""

_ROWS_AHEAD = 2
"""Begun before a row's last run has ended, so that no process waits for it."""

_RUNS_A_PROCESS = 16
"""Fewer are fitted before a process of their own has imported what it needs."""


def fit_missing(
    dataset: Dataset,
    split: Split,
    plans: Sequence[Plan],
    folder: Path,
    *,
    workers: int,
    engine: EngineConfig = ThreadsConfig(),  # noqa: B008, frozen
    progress: Progress,
) -> int:
    """Fits the runs that have no result in a folder.

    Args:
        workers: processes of this machine that fit.
        engine: where they are fitted; a cluster knows its own number of processes.
        progress: over all runs.

    Returns:
        How many were fitted.
    """
    done = fitted_keys(folder)
    missing = [(one, one.missing(done)) for one in plans]
    count = sum(len(runs) for _, runs in missing)
    if count:
        runs_of_one = next(one.runs for one in plans if one.runs)
        publish(folder.parent / "splits", dataset, split, runs_of_one)
        number = min(workers, 1 + count // _RUNS_A_PROCESS)
        executor, bar = executor_of(engine, number), progress("fitting", count)
        with writing(folder), executor as within, bar as advance:
            begun: deque[tuple[FeatureTable, Budgets]] = deque()
            for one, runs in missing:
                if runs:
                    table = features(dataset, split, one)
                    begun.append((table, sweep(table, runs, within=within)))
                if len(begun) > _ROWS_AHEAD:
                    _store(folder, *begun.popleft(), advance)
            for started in begun:
                _store(folder, *started, advance)
    return count


def fitted_keys(folder: Path, name: results.Runs = "results") -> set[str]:
    """Keys of the runs that have a result."""
    if not all(present(folder / f"{file}.parquet") for file in ("predictions", "subsets")):
        return set()
    return set(results.read(folder, name)["run_key"].to_pylist())


def _store(folder: Path, table: FeatureTable, budgets: Budgets, advance: Advance) -> None:
    for outcomes in budgets:
        results.append(
            folder,
            results=[result_row(table, outcome) for outcome in outcomes],
            predictions=pa.concat_tables(
                [
                    prediction_rows(table, outcome.run.key, outcome.probabilities)
                    for outcome in outcomes
                ]
            ),
            subsets=[subset_row(table, outcome.run) for outcome in outcomes],
        )
        advance(len(outcomes))


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


def fit_transfers(
    data: DomainTable,
    transfers: Sequence[Transfer],
    folder: Path,
    *,
    workers: int,
    engine: EngineConfig,
    progress: Progress,
) -> int:
    """Fits what has no result in a folder.

    Args:
        folder: of the study's results.
        workers: processes of this machine that fit.
        engine: where they are fitted; a cluster knows its own number of processes.
        progress: over all runs.

    Returns:
        How many runs were fitted.
    """
    done = fitted_keys(folder, "adaptation")
    missing = [one for one in transfers if not set(one.keys) <= done]
    count = sum(len(one.keys) for one in missing)
    if missing:
        number = min(workers, len(missing))
        executor, bar = executor_of(engine, number), progress("fitting", count)
        with writing(folder), executor as within, bar as advance:
            outcomes = within.map(fit_transfer, data.table, missing)
            for one, outcome in zip(missing, outcomes, strict=True):
                results.append(
                    folder,
                    name="adaptation",
                    results=transfer_rows(data.table, one, outcome),
                    predictions=transfer_predictions(data.table, one, outcome),
                    subsets=transfer_subsets(data.table, one),
                )
                advance(len(one.keys))
    return count
