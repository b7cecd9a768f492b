"""``medfocus probe``: fit heads on the cached features, print the table."""

import time
from collections.abc import Sequence

from medfocus_pipeline.commands.output import bar, human, say, say_json, say_problems
from medfocus_pipeline.commands.results_table import build, show
from medfocus_pipeline.config import EngineConfig, ProbeConfig
from medfocus_pipeline.datasets.audit import patients_warning
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.errors import counted
from medfocus_pipeline.project.fits import fitted_keys
from medfocus_pipeline.project.plans import Plan, bytes_of
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import encoder_label
from medfocus_pipeline.report.formats import records
from medfocus_pipeline.report.score_table import TableRow

_MUCH = 100e6
"""Bytes of features that are worth a line."""


def run(
    context: Context,
    config: ProbeConfig,
    *,
    workers: int,
    engine: EngineConfig,
    as_json: bool = False,
) -> None:
    """Fit the runs that have no result yet, then print the table.

    Args:
        workers: processes of this machine that fit.
        engine: where they are fitted.
    """
    project = Project.of(context, progress=bar)
    plans = project.plans(config)
    project.context.remember(card=project.dataset.card_path, probe=config)
    started = time.monotonic()
    split = project.split(config)
    _say_memory(plans, split, fitted_keys(project.results_folder))
    count = project.fit(plans, split, workers=workers, engine=engine)
    if count:
        say(f"probe: {counted(count, 'run')} fitted in {time.monotonic() - started:.1f} s")
    else:
        runs = counted(sum(len(one.runs) for one in plans), "run is", "runs are")
        say(f"probe: all {runs} done, nothing to do")
    title = f"{context.dataset}, {encoder_label(context.embed.encoder)}"
    shown = [TableRow(one.label, runs=one.runs, note=one.note, method=one.paper) for one in plans]
    folder = project.results_folder
    table = build(title, shown, folder, project.dataset)
    if as_json:
        say_json({"title": table.title, "rows": records(table), "notes": table.notes})
    show(table)
    unknown = patients_warning(project.dataset.manifest)
    if unknown:
        say(unknown)
    say_problems(project.dataset.problems)
    say(f"results: {folder / 'results.parquet'}")
    say(f"next: make report DATASET={context.dataset}, then make export DATASET={context.dataset}")


def _say_memory(plans: Sequence[Plan], split: Split, done: set[str]) -> None:
    """What the features take that are about to be read, if it is much."""
    most = max((bytes_of(one, split) for one in plans if one.missing(done)), default=0)
    if most >= _MUCH:
        images = len(split.train) + len(split.test)
        say(
            f"probe: the features of {images:,} images take up to {human(most)} a line of the table"
        )
