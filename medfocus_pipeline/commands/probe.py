"""``medfocus probe``: fit heads on the cached features, print the table."""

import time

from medfocus_pipeline.commands.progress import bar, say, say_json, say_problems
from medfocus_pipeline.commands.results_table import Shown, build, show
from medfocus_pipeline.config import ProbeConfig
from medfocus_pipeline.datasets.audit import patients_warning
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import encoder_label
from medfocus_pipeline.report.table import records


def run(context: Context, config: ProbeConfig, *, workers: int, as_json: bool = False) -> int:
    """Fit the runs that have no result yet, then print the table.

    Args:
        workers: processes that fit.
        as_json: print the table for a program.

    Returns:
        0.
    """
    project = Project.of(context, progress=bar)
    plans = project.plans(config)
    project.context.remember(card=project.dataset.card_path, probe=config)
    started = time.monotonic()
    count = project.fit(plans, project.split(config), workers=workers)
    if count:
        say(f"probe: {count:,} runs fitted in {time.monotonic() - started:.1f} s")
    else:
        say(f"probe: all {sum(len(one.runs) for one in plans):,} runs are done, nothing to do")
    title = f"{context.dataset}, {encoder_label(context.embed.encoder)}"
    shown = [Shown(one.label, one.runs, one.note, method=one.paper) for one in plans]
    paper, manifest = project.dataset.card.paper, project.dataset.manifest
    folder = project.results_folder
    table = build(
        title,
        shown,
        folder,
        paper=paper,
        classes=manifest.classes,
        patients=manifest.patients,
    )
    if as_json:
        say_json({"title": table.title, "rows": records(table), "notes": table.notes})
    show(table)
    unknown = patients_warning(manifest)
    if unknown:
        say(unknown)
    say_problems(project.dataset.problems)
    say(f"results: {folder / 'results.parquet'}")
    say(f"next: make report DATASET={context.dataset}, then make export DATASET={context.dataset}")
    return 0
