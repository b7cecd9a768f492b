"""Fitting runs, budget by budget, those that share a fit once."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.evaluation.metrics import NAN
from medfocus_pipeline.evaluation.processes import HERE, Executor
from medfocus_pipeline.evaluation.runs import Outcome, Run, run_generator, task_of
from medfocus_pipeline.features import FeatureTable
from medfocus_pipeline.heads.folds import folds, smallest_class
from medfocus_pipeline.heads.many import fit_all
from medfocus_pipeline.heads.protocol import FittedHead, TrainingSet
from medfocus_pipeline.heads.table import make_head
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import JSON, IntArray

_PREDICTED_AT_ONCE = 4096
"""Test images of a call, so that large sets need little memory beside their features."""


def sweep(
    table: FeatureTable, runs: Sequence[Run], *, within: Executor = HERE
) -> Iterator[list[Outcome]]:
    """Fit runs of one head, budget by budget; the processes begin before the first is asked for.

    The largest budget comes first, so that no process waits long for the last fit. A head
    computes with one thread, so that results do not depend on the number of processes.

    Args:
        table: the features that the runs were planned for.
        within: where.

    Returns:
        The outcomes of one budget's runs after another's, the largest budget first.
    """
    budgets = [list(group) for _, group in groupby(runs, key=lambda run: run.budget)]
    budgets.sort(key=lambda budget: -len(budget[0].subset))
    tasks = [_tasks(budget) for budget in budgets]
    fits = within.map(fit_and_predict, table, [task for budget in tasks for task in budget])
    return (_outcomes(*one, fits) for one in zip(budgets, tasks, strict=True))


def _outcomes(
    budget: Sequence[Run], tasks: Sequence[Sequence[Run]], fits: "Iterator[list[Fit]]"
) -> list[Outcome]:
    """Those of one budget, whose tasks' fits are the next ones."""
    found: dict[str, Fit] = {}
    for task in tasks:
        found |= zip([run.fit_key for run in task], next(fits), strict=True)
    return [Outcome(run, *found[run.fit_key]) for run in budget]


def _tasks(budget: Sequence[Run]) -> list[list[Run]]:
    """The distinct fits of one budget's runs: one by one, or so many seeds side by side."""
    distinct = list({run.fit_key: run for run in budget}.values())
    return [list(group) for _, group in groupby(distinct, key=task_of)]


Fit = tuple[NDArray[np.float64], JSON, float]
"""Test probabilities, what was chosen, and the seconds of the fit."""


def fit_and_predict(table: FeatureTable, runs: Sequence[Run]) -> list[Fit]:
    """Fit runs of one head and budget, then read the test images."""
    started = time.perf_counter()
    fitted = fit(table, runs)
    seconds = (time.perf_counter() - started) / len(runs)
    return [(predict(one, table), one.chosen, seconds) for one in fitted]


def fit(table: FeatureTable, runs: Sequence[Run]) -> Sequence[FittedHead]:
    """Train on the runs' subsets; sees no test image."""
    trains = [training_set(table, run) for run in runs]
    rngs = [run_generator(run) for run in runs]
    return fit_all(make_head(runs[0].head), trains, rngs)


def held_out_accuracy(table: FeatureTable, run: Run, *, n_folds: int = 3) -> float:
    """Accuracy of a run's head by cross-validation inside its subset; sees no test image.

    Folds are stratified, with whole groups on one side. For the ranking of rows, not to be
    reported: a fold learns from fewer images than the run.

    Returns:
        nan where a class is too small for two folds.
    """
    rows = table.train[run.subset]
    labels = table.labels[rows]
    groups = None if table.groups is None else table.groups[rows]
    count = min(n_folds, smallest_class(labels, groups))
    if count < 2:
        return NAN
    right, rng = [], generator("held out", run.subset_key)
    for rest, held_out in folds(labels, n_folds=count, rng=rng, groups=groups):
        part = replace(table, test=rows[held_out])
        [(found, _, _)] = fit_and_predict(part, [replace(run, subset=run.subset[rest])])
        right.append(found.argmax(axis=1) == labels[held_out])
    return float(np.concatenate(right).mean()) if right else NAN


def training_set(table: FeatureTable, run: Run) -> TrainingSet:
    """The subset of a run, in an order that does not depend on the files'."""
    rows = by_id(table, table.train[run.subset])
    return TrainingSet(
        features=table.features[rows],
        labels=table.labels[rows],
        n_classes=len(table.classes),
        text=table.text,
        temperature=table.temperature,
        prompts=table.prompts,
        groups=None if table.groups is None else table.groups[rows],
    )


def by_id(table: FeatureTable, rows: IntArray) -> IntArray:
    """Rows by id: a key does not tell the order of the files, so no fit may depend on it."""
    order = sorted(rows.tolist(), key=lambda row: (table.image_ids[row], table.labels[row]))
    return np.array(order, np.int64)


def predict(fitted: FittedHead, table: FeatureTable) -> NDArray[np.float64]:
    """Probabilities of the test images, ``(n_test, K) float64``: the one reading of the test.

    Heads compute in float64, so that all at once would take twice what the features do.
    """
    parts = range(0, max(1, len(table.test)), _PREDICTED_AT_ONCE)
    return np.concatenate(
        [
            fitted.predict_proba(table.features[table.test[start : start + _PREDICTED_AT_ONCE]])
            for start in parts
        ]
    )
