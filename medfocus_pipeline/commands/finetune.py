"""``medfocus finetune``: train a network on each subset, beside a linear probe of the same one."""

import json
import time
from collections.abc import Sequence

from medfocus_pipeline.commands.output import say, say_filled, say_table
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
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.tuned_results import REFERENCE, beside
from medfocus_pipeline.report.drawing import as_png
from medfocus_pipeline.report.score_table import TableRow
from medfocus_pipeline.report.tuned import draw_learning, search_sections, training_section
from medfocus_pipeline.tuning.tuned_runs import TunedRun


def run(
    context: Context,
    encoder: EncoderConfig,
    config: TuningConfig,
    *,
    runtime: Runtime,
    workers: int,
) -> None:
    """Train what has no result yet, then print the table.

    Args:
        workers: processes that fit the linear probes.
    """
    context.need_folder("finetune")
    started = time.monotonic()
    project = open_project(context)
    project.context.remember(card=project.dataset.card_path)
    tuning = Finetuning(project, encoder, config)
    say_filled(tuning.pictures.fill(runtime))
    say_estimate(tuning, runtime)
    plans = _fit_beside(tuning, runtime, workers)
    with watching(tuning) as watch:
        count = tuning.fit(runtime, watch=watch)
    runs = tuning.runs()
    minutes = (time.monotonic() - started) / 60
    done = f"{counted(count, 'run')} trained, {minutes:.1f} min in all"
    none = f"all {counted(len(runs), 'run is', 'runs are')} done, nothing to do"
    say(f"finetune: {done if count else none}")
    _report(tuning, runs, plans)


def _fit_beside(tuning: Finetuning, runtime: Runtime, workers: int) -> list[Plan]:
    """Heads on the same encoder as it is, embedded and fitted where they are missing."""
    own, probe = beside(tuning.project, tuning.encoder, tuning.config)
    for filled in own.embeddings().fill(runtime):
        say_filled(filled)
    plans = own.plans(probe)
    own.fit(plans, own.split(probe), workers=workers, engine=runtime.engine)
    return plans


def _report(tuning: Finetuning, runs: Sequence[TunedRun], plans: Sequence[Plan]) -> None:
    project = tuning.project
    folder, label = project.results_folder, f"finetune:{tuning.label}"
    shown = [
        TableRow(label, runs=runs),
        *(TableRow(one.label, runs=one.runs, note=one.note) for one in plans),
    ]
    title = f"{project.name}, {tuning.label}: {tuning.config.run.trained} trained"
    show(build(title, shown, folder, project.dataset, reference=REFERENCE))
    rows = {row["run_key"]: row for row in results.read(folder).to_pylist()}
    chosen = {run.key: json.loads(rows[run.key]["chosen"]) for run in runs}
    cells = tuned_cells(label, runs, chosen)
    for section in (training_section(cells), recalls(project, shown), *search_sections(cells)):
        say(f"\n{section.title}")
        say_table(section.header, section.rows)
    place = folder / f"learning-{tuning.label.replace('/', '-')}.png"
    with disk_errors(folder):
        write_bytes(place, as_png(draw_learning(cells)))
    say(f"learning curves: {place}")
    say(f"results: {folder / 'results.parquet'}")
