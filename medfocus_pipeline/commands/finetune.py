"""``medfocus finetune``: train a network on each subset, beside a linear probe of the same one."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from medfocus_pipeline import encoders
from medfocus_pipeline.commands.progress import bar, err, out, say, say_rate
from medfocus_pipeline.commands.results_table import Shown, build, show
from medfocus_pipeline.commands.scan import open_project
from medfocus_pipeline.config import EncoderConfig, ProbeConfig, ProbeRow, Runtime, ZeroShotConfig
from medfocus_pipeline.config.tuning import TuningConfig
from medfocus_pipeline.errors import counted
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.answers import read_answers
from medfocus_pipeline.evaluation.diagnostics import class_recalls
from medfocus_pipeline.files import disk_errors, write_bytes
from medfocus_pipeline.project.finetuning import Finetuning, Watch
from medfocus_pipeline.project.plans import Plan
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.report.drawing import as_png
from medfocus_pipeline.report.learning import Lesson, draw_learning
from medfocus_pipeline.report.table import heading
from medfocus_pipeline.tuning.course import Epoch
from medfocus_pipeline.tuning.runs import TunedRun
from medfocus_pipeline.types import JSON, FeaturePart

REFERENCE = "linear on original.levels"
"""Label of the row that the fine-tuned ones are tested against."""

_LOG_EVERY = 15.0

_SEARCHED = (
    *("learning_rate", "weight_decay", "label_smoothing"),
    *("trained", "balance", "augmentation"),
)

_LONG = 600.0
"""Seconds; what may take longer is announced."""


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
    started = time.monotonic()
    project = open_project(context)
    project.context.remember(card=project.dataset.card_path)
    tuning = Finetuning(project, encoder, config)
    filled = tuning.fill(runtime)
    if filled:
        say_rate(filled.what, filled.computed, filled.seconds)
    say_estimate(tuning, runtime)
    beside = _beside(project, encoder, config, runtime, workers)
    with watching(tuning) as watch:
        count = tuning.fit(runtime, watch=watch)
    runs = tuning.runs()
    minutes = (time.monotonic() - started) / 60
    done = f"{counted(count, 'run')} trained, {minutes:.1f} min in all"
    none = f"all {counted(len(runs), 'run is', 'runs are')} done, nothing to do"
    say(f"finetune: {done if count else none}")
    _report(project, tuning, runs, beside)
    return 0


def say_estimate(tuning: Finetuning, runtime: Runtime) -> None:
    """Say it before a CPU works for long."""
    seconds = tuning.estimate(runtime)
    if seconds > _LONG:
        say(
            f"{tuning.label}: on this CPU at most about {seconds / 3600:.1f} h. Less: smaller "
            "--fractions, fewer --seeds or --trials, --what last_block; or --device cuda elsewhere"
        )


def _beside(
    project: Project,
    encoder: EncoderConfig,
    config: TuningConfig,
    runtime: Runtime,
    workers: int,
) -> list[Plan]:
    """Linear probes, and zero-shot, of the same encoder on whole images and the same subsets."""
    context = project.context
    embed = context.profile.embed.model_copy(
        update={"encoder": encoder, "focus": ("original",), "roi_parts": False}
    )
    settings = context.settings.model_copy(update={"embed": embed})
    passing = replace(context, settings=settings, passing=True)
    own = Project(passing, project.dataset, progress=bar)
    for filled in own.embeddings_of(embed).fill(runtime):
        say_rate(filled.what, filled.computed, filled.seconds, unit=filled.unit)
    parts = [FeaturePart("original", "levels"), FeaturePart("original")]
    rows = [ProbeRow(focus=(part,)) for part in parts]
    if encoders.has_text(encoder):
        rows.append(ProbeRow(head=ZeroShotConfig(), focus=(parts[1],)))
    probe = ProbeConfig(
        rows=tuple(rows),
        fractions=config.fractions,
        shots=config.shots,
        seeds=config.seeds,
        split_seed=context.probe.split_seed,
        test_share=context.probe.test_share,
    )
    plans = own.plans(probe)
    own.fit(plans, own.split(probe), workers=workers)
    return plans


def _report(
    project: Project, tuning: Finetuning, runs: Sequence[TunedRun], beside: Sequence[Plan]
) -> None:
    manifest, folder = project.dataset.manifest, project.results_folder
    label = f"finetune:{tuning.label}"
    shown = [Shown(label, runs), *(Shown(one.label, one.runs, one.note) for one in beside)]
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
    _say_training(project, label, runs, chosen)
    _say_search(runs, chosen)
    place = folder / f"learning-{tuning.label.replace('/', '-')}.png"
    lessons = [
        Lesson(heading(run.budget), chosen[run.key]["curves"], chosen[run.key]["epochs"])
        for run in runs
    ]
    with disk_errors(folder):
        write_bytes(place, as_png(draw_learning(lessons)))
    say(f"learning curves: {place}")
    say(f"results: {folder / 'results.parquet'}")


def _say_search(runs: Sequence[TunedRun], chosen: Mapping[str, JSON]) -> None:
    """Every trial of every search, and which parameters mattered."""
    columns = ("trial", "state", "validation_loss", "epochs", *_SEARCHED)
    told: set[str] = set()
    for run in runs:
        if "search" not in chosen[run.key] or run.search_key in told:
            continue
        told.add(run.search_key)
        found = chosen[run.key]["search"]
        say(f"trials, {heading(run.budget)} seed {run.seed}; the best is {found['best']}")
        table = Table(*(name.replace("_", " ") for name in columns), box=None)
        for row in found["trials"]:
            table.add_row(*(_cell(row[name]) for name in columns))
        out.print(table)
        shares = ", ".join(f"{name} {share:.2f}" for name, share in found["importance"].items())
        say(f"importance: {shares or 'too few trials to say'}; diverged: {found['diverged']}")


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "-" if value is None else str(value)


def _say_training(
    project: Project, label: str, runs: Sequence[TunedRun], chosen: Mapping[str, JSON]
) -> None:
    """Accuracy on the training images, and recall by class, of each budget."""
    folder = project.results_folder
    answers = read_answers(results.read(folder, "predictions"), [run.key for run in runs])
    classes = project.classes
    for budget in dict.fromkeys(run.budget for run in runs):
        own = [run for run in runs if run.budget == budget]
        said = [chosen[run.key] for run in own]
        seen = 100 * sum(one["train_accuracy"] for one in said) / len(own)
        epochs = ", ".join(str(one["epochs"]) for one in said)
        recalls = class_recalls([answers[run.key] for run in own], n_classes=len(classes))
        told = ", ".join(
            f"{name} {100 * one.mean:.1f}" for name, one in zip(classes, recalls, strict=True)
        )
        say(
            f"{label}, {heading(budget)}: {seen:.1f} % of its own training images right, after "
            f"{epochs} epochs; recall of test images, %: {told}"
        )


@contextmanager
def watching(tuning: Finetuning) -> Iterator[Watch]:
    """A bar over the epochs of all runs with loss and validation; lines where there is no terminal.

    Its end is that of runs that stop at none of their epochs.
    """
    last = time.monotonic()

    def said(run: TunedRun, epoch: Epoch) -> str:
        return (
            f"{heading(run.budget)} seed {run.seed}: epoch {epoch.number} of {epoch.of}, loss "
            f"{epoch.loss:.3f}, validation {epoch.validation:.3f}"
        )

    def line(run: TunedRun, epoch: Epoch) -> None:
        nonlocal last
        if time.monotonic() - last >= _LOG_EVERY:
            last = time.monotonic()
            err.print(said(run, epoch))

    if not err.is_terminal:
        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TimeRemainingColumn())
    with Progress(*columns, console=err) as progress:
        total = sum(run.head.epochs * (1 + run.search.trials) for run in tuning.runs())
        task = progress.add_task("fine-tuning", total=total)
        yield lambda run, epoch: progress.update(task, advance=1, description=said(run, epoch))
