"""``medfocus probe``: fit heads on the cached features, print the table."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from medfocus_pipeline.config import ProbeConfig
from medfocus_pipeline.datasets.audit import patients_warning
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.processes import processes
from medfocus_pipeline.evaluation.rows import prediction_rows, result_row, subset_row
from medfocus_pipeline.evaluation.sweep import Outcome, sweep
from medfocus_pipeline.features import FeatureTable
from medfocus_pipeline.reproduction import MEDFOCUS, OWN
from medfocus_pipeline.sealed import present
from medfocus_pipeline.stores.lock import writing
from stages.locate import Stores, check_embedded, encoder_label, locate_stores
from stages.planning import Plan, features, plan, split_of
from stages.progress import Advance, bar, say
from stages.results_table import Shown, build, show
from stages.scan import Dataset, open_dataset
from stages.settings import Context
from stages.splits import publish

Budgets: TypeAlias = Iterator[list[Outcome]]
"""The outcomes of a row, budget by budget."""

_ROWS_AHEAD = 2
"""Begun before a row's last run has ended, so that no process waits for it."""

_RUNS_A_PROCESS = 16
"""Fewer are fitted before a process of their own has imported what it needs."""


def parse_row(text: str) -> dict[str, object]:
    """``fusion:original+segmented`` as a `ProbeRow`; a plug-in's name has a colon of its own.

    ``medfocus`` alone is MedFocus's own row.

    Raises:
        ConfigError: there is no focus mode in it.
    """
    if text == OWN:
        return {"head": {"name": "linear"}, "focus": MEDFOCUS}
    head, _, focus = text.rpartition(":")
    if not head or not focus:
        raise ConfigError(f"--row {text!r}: expected HEAD:FOCUS, e.g. linear:original+segmented.")
    return {"head": {"name": head}, "focus": focus.split("+")}


def run(context: Context, config: ProbeConfig, *, workers: int) -> int:
    """Fit the runs that have no result yet, then print the table.

    Returns:
        0.
    """
    dataset = open_dataset(context, images_needed=False)
    stores = locate_stores(context, dataset, context.embed.configs(auto=dataset.card.roi))
    split = split_of(dataset, config)
    plans = plan(context, dataset, stores, split, config)
    for one in plans:
        check_embedded(one.context, one.places)
    context.remember(card=dataset.card_path, probe=config)
    folder = context.folder / "results"
    started = time.monotonic()
    count = fit_missing(dataset, split, plans, folder, workers=workers)
    if count:
        say(f"probe: {count:,} runs fitted in {time.monotonic() - started:.1f} s")
    else:
        say(f"probe: all {sum(len(one.runs) for one in plans):,} runs are done, nothing to do")
    title = f"{context.dataset}, {encoder_label(context.embed.encoder)}"
    shown = [Shown(one.label, one.runs, one.note, method=one.paper) for one in plans]
    show(build(title, shown, folder, paper=dataset.card.paper, classes=dataset.manifest.classes))
    unknown = patients_warning(dataset.manifest)
    if unknown:
        say(unknown)
    say(f"results: {folder / 'results.parquet'}")
    say(f"next: make report DATASET={context.dataset}, then make export DATASET={context.dataset}")
    return 0


def fit_missing(
    dataset: Dataset, split: Split, plans: Sequence[Plan], folder: Path, *, workers: int
) -> int:
    """Fits the runs that have no result in a folder, with a progress bar over all of them.

    Returns:
        How many were fitted.
    """
    done = _done(folder)
    missing = [(one, one.missing(done)) for one in plans]
    count = sum(len(runs) for _, runs in missing)
    if count:
        runs_of_one = next(one.runs for one in plans if one.runs)
        publish(folder.parent / "splits", dataset, split, runs_of_one)
        number = min(workers, 1 + count // _RUNS_A_PROCESS)
        with writing(folder), processes(number) as within, bar("fitting", count) as advance:
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


def count_runs(context: Context, dataset: Dataset, stores: Stores) -> list[tuple[str, int, int]]:
    """(label, runs with a result, runs) of each line of the table."""
    config = context.probe
    plans = plan(context, dataset, stores, split_of(dataset, config), config)
    done = _done(context.folder / "results")
    return [(one.label, len(one.runs) - len(one.missing(done)), len(one.runs)) for one in plans]


def _done(folder: Path) -> set[str]:
    if not all(present(folder / f"{name}.parquet") for name in ("predictions", "subsets")):
        return set()
    return set(results.read(folder)["run_key"].to_pylist())


def _store(folder: Path, table: FeatureTable, budgets: Budgets, advance: Advance) -> None:
    for outcomes in budgets:
        results.append(
            folder,
            results=[result_row(table, outcome) for outcome in outcomes],
            predictions=pa.concat_tables([prediction_rows(table, outcome) for outcome in outcomes]),
            subsets=[subset_row(table, outcome.run) for outcome in outcomes],
        )
        advance(len(outcomes))
