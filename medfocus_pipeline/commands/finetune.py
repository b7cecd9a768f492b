"""``medfocus finetune``: train a network on each subset, beside a linear probe of the same one."""

import json
import time
from collections.abc import Sequence

from medfocus_pipeline.commands.progress import say, say_rate, say_table
from medfocus_pipeline.commands.results_table import build, show
from medfocus_pipeline.commands.scan import open_project
from medfocus_pipeline.commands.tuned import recalls, say_estimate, tuned_cells, watching
from medfocus_pipeline.config import EncoderConfig, Runtime
from medfocus_pipeline.config.tuning import TuningConfig
from medfocus_pipeline.errors import counted
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.files import disk_errors, write_bytes
from medfocus_pipeline.project.finetuning import Finetuning
from medfocus_pipeline.project.plans import Plan
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.tuned_results import REFERENCE, beside
from medfocus_pipeline.report.drawing import as_png
from medfocus_pipeline.report.learning import draw_learning
from medfocus_pipeline.report.table import TableRow
from medfocus_pipeline.report.tuned import lessons, search_sections, training_section
from medfocus_pipeline.tuning.tuned_runs import TunedRun


def run(
    context: Context,
    encoder: EncoderConfig,
    config: TuningConfig,
    *,
    runtime: Runtime,
    workers: int,
) -> int:
    """Train what has no result yet, then print the table.

    Args:
        encoder: where training begins.
        config: how, over which subsets.
        workers: processes that fit the linear probes.

    Returns:
        0.
    """
    context.need_folder("finetune")
    started = time.monotonic()
    project = open_project(context)
    project.context.remember(card=project.dataset.card_path)
    tuning = Finetuning(project, encoder, config)
    filled = tuning.pictures.fill(runtime)
    if filled:
        say_rate(filled.what, filled.computed, filled.seconds)
    say_estimate(tuning, runtime)
    plans = _fit_beside(project, encoder, config, runtime, workers)
    with watching(tuning) as watch:
        count = tuning.fit(runtime, watch=watch)
    runs = tuning.runs()
    minutes = (time.monotonic() - started) / 60
    done = f"{counted(count, 'run')} trained, {minutes:.1f} min in all"
    none = f"all {counted(len(runs), 'run is', 'runs are')} done, nothing to do"
    say(f"finetune: {done if count else none}")
    _report(project, tuning, runs, plans)
    return 0


def _fit_beside(
    project: Project,
    encoder: EncoderConfig,
    config: TuningConfig,
    runtime: Runtime,
    workers: int,
) -> list[Plan]:
    """Heads on the same encoder as it is, embedded and fitted where they are missing."""
    own, probe = beside(project, encoder, config)
    for filled in own.embeddings().fill(runtime):
        say_rate(filled.what, filled.computed, filled.seconds, unit=filled.unit)
    plans = own.plans(probe)
    own.fit(plans, own.split(probe), workers=workers, engine=runtime.engine)
    return plans


def _report(
    project: Project, tuning: Finetuning, runs: Sequence[TunedRun], plans: Sequence[Plan]
) -> None:
    manifest, folder = project.dataset.manifest, project.results_folder
    label = f"finetune:{tuning.label}"
    shown = [
        TableRow(label, runs=runs),
        *(TableRow(one.label, runs=one.runs, note=one.note) for one in plans),
    ]
    table = build(
        f"{project.name}, {tuning.label}: {tuning.config.run.trained} trained",
        shown,
        folder,
        paper=project.dataset.card.paper,
        classes=manifest.classes,
        patients=manifest.patients,
        reference=REFERENCE,
    )
    show(table)
    rows = {row["run_key"]: row for row in results.read(folder).to_pylist()}
    chosen = {run.key: json.loads(rows[run.key]["chosen"]) for run in runs}
    cells = tuned_cells(label, runs, chosen)
    for section in (training_section(cells), recalls(project, shown), *search_sections(cells)):
        say(f"\n{section.title}")
        say_table(section.header, section.rows)
    place = folder / f"learning-{tuning.label.replace('/', '-')}.png"
    with disk_errors(folder):
        write_bytes(place, as_png(draw_learning(lessons(cells))))
    say(f"learning curves: {place}")
    say(f"results: {folder / 'results.parquet'}")
