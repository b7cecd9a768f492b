"""What every command that fine-tunes says: how long, how far, and what came of it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from medfocus_pipeline.commands.output import err, say
from medfocus_pipeline.config import Runtime
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.diagnostics import class_recalls
from medfocus_pipeline.evaluation.predictions import read_predictions
from medfocus_pipeline.evaluation.runs import PlannedRun
from medfocus_pipeline.project.finetuning import Finetuning, Watch
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.report.content import Section
from medfocus_pipeline.report.score_table import TableRow, heading
from medfocus_pipeline.report.tuned import TunedCell
from medfocus_pipeline.tuning.course import Epoch
from medfocus_pipeline.tuning.tuned_runs import TunedRun
from medfocus_pipeline.types import JSON

_LOG_EVERY = 15.0

_LONG = 600.0
"""Seconds; what may take longer is announced."""


def say_estimate(tuning: Finetuning, runtime: Runtime) -> None:
    """Say it before a CPU works for long."""
    found = tuning.estimate(runtime)
    if found.most > _LONG:
        say(
            f"{tuning.label}: on this CPU between {_hours(found.least)} and {_hours(found.most)}, "
            "by how early the epochs end. Less: smaller --fractions, fewer --seeds or --trials, "
            "--what last_block; or --device cuda elsewhere"
        )


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(seconds / 60, 1):.0f} min"


def tuned_cells(
    label: str, runs: Sequence[PlannedRun], chosen: Mapping[str, JSON]
) -> list[TunedCell]:
    """Runs of one line, by budget."""
    return [
        TunedCell(
            label,
            budget,
            [run.seed for run in runs if run.budget == budget],
            [chosen[run.key] for run in runs if run.budget == budget],
        )
        for budget in dict.fromkeys(run.budget for run in runs)
    ]


def recalls(project: Project, rows: Sequence[TableRow]) -> Section:
    """Recall of the test images of each class, of every row and budget that has runs."""
    keys = [run.key for row in rows for run in row.runs]
    answers = read_predictions(results.read(project.results_folder, "predictions"), keys)
    classes, lines = project.classes, []
    for row in rows:
        for budget in dict.fromkeys(run.budget for run in row.runs):
            own = [answers[run.key] for run in row.runs if run.budget == budget]
            found = class_recalls(own, n_classes=len(classes))
            lines += [
                [row.label, heading(budget), name, f"{100 * one.mean:.1f} ± {100 * one.spread:.1f}"]
                for name, one in zip(classes, found, strict=True)
            ]
    return Section("Recall by class, %", ["of", "on", "class", "recall, %"], lines)


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
