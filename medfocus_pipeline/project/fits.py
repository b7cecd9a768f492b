"""Stage two of a project: the runs that have no result are fitted, and kept."""

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from medfocus_pipeline.config import EngineConfig, ThreadsConfig
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.processes import executor_of
from medfocus_pipeline.evaluation.result_rows import prediction_rows, result_row, subset_row
from medfocus_pipeline.evaluation.runs import Outcome
from medfocus_pipeline.evaluation.sweep import sweep
from medfocus_pipeline.features import FeatureTable
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.plans import Plan, features
from medfocus_pipeline.project.progress import Advance, Progress
from medfocus_pipeline.project.splits import publish
from medfocus_pipeline.sealed import present
from medfocus_pipeline.stores.lock import writing

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
