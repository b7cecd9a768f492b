"""The results table: from the stored runs of some rows to the terminal and to files."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from medfocus_pipeline.commands.progress import out, say
from medfocus_pipeline.datasets.audit import leak_warning
from medfocus_pipeline.datasets.splits import Budget
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.answers import of_runs, read_answers
from medfocus_pipeline.evaluation.comparison import Comparison, compare
from medfocus_pipeline.evaluation.diagnostics import accuracy_interval
from medfocus_pipeline.evaluation.scores import TABLE, scored
from medfocus_pipeline.evaluation.statistics import (
    Interval,
    Row,
    budget_of,
    curve_areas,
    scores_by_budget,
    t_interval,
)
from medfocus_pipeline.evaluation.sweep import PlannedRun
from medfocus_pipeline.files import disk_errors, write_text
from medfocus_pipeline.report import table as report
from medfocus_pipeline.report.drawing import printable
from medfocus_pipeline.report.table import Entry, Line, ResultsTable

CLEAN = "clean: without test images whose bytes or pixels are also among the training images"
LEARNED = "fusion: the encoder has no text tower, so the class embeddings were learned"


@dataclass(frozen=True, slots=True)
class Shown:
    """One row of the table to be.

    Attributes:
        runs: none where `note` says why, in a word or two, and `detail` in full.
        method: its name in the paper's tables; empty if it is not there.
    """

    label: str
    runs: Sequence[PlannedRun]
    note: str = ""
    detail: str = ""
    group: str = ""
    method: str = ""


def build(
    title: str,
    shown: Sequence[Shown],
    folder: Path,
    *,
    paper: Mapping[str, Mapping[float, float]],
    reference: str | None = None,
    classes: Sequence[str] = (),
    patients: Mapping[str, str] = MappingProxyType({}),
) -> ResultsTable:
    """Reads the runs' results and sums them up.

    Args:
        shown: the rows.
        folder: of the results; every run must be there.
        paper: method -> percent of the training images -> accuracy in percent.
        classes: names of the K classes, for the line of the most frequent one.
        patients: image id -> patient, where it is known.
        reference: label of the row that others are tested against; None tests nothing.
    """
    shown = _distinct(shown)
    keys = {run.key for one in shown for run in one.runs}
    predictions = results.read(folder, "predictions")
    runs = scored(of_runs(results.read(folder), keys), predictions, TABLE)
    found = {row["run_key"]: row for row in runs.to_pylist()}
    rows = {one.label: [found[run.key] for run in one.runs] for one in shown if one.runs}
    compared: dict[tuple[str, Budget], Comparison] = {}
    if reference in rows and len(rows) > 1:
        comparisons = compare(rows, predictions, reference=reference)
        compared = {(one.label, one.budget): one for one in comparisons}
    known = any(patients.values()) and bool(rows)
    lines = [
        _line(
            one,
            rows.get(one.label, []),
            compared,
            paper.get(one.method, {}),
            lambda own: accuracy_interval(own, predictions if known else None, patients),
        )
        for one in shown
    ]
    budgets = list(dict.fromkeys(run.budget for one in shown for run in one.runs))
    details = [f"{one.label}: {one.detail}" for one in shown if one.detail]
    notes = _notes(lines, rows, compared, reference, by_patient=known)
    any_run = [row["run_key"] for own in rows.values() for row in own[:1]][:1]
    majority = _majority(predictions, any_run, classes) if classes else None
    return ResultsTable(title, budgets, lines, [*notes, *details], majority)


def _majority(
    predictions: pa.Table, run_keys: Sequence[str], classes: Sequence[str]
) -> tuple[str, float] | None:
    """The most frequent class of the test images of a run, and its share."""
    for answers in read_answers(predictions, run_keys).values():
        counts = np.bincount(answers.labels, minlength=len(classes))
        if len(counts) == len(classes) and counts.sum():
            place = int(counts.argmax())
            return classes[place], float(counts[place] / counts.sum())
    return None


def _distinct(shown: Sequence[Shown]) -> list[Shown]:
    """Labels that more than one row has get a number."""
    labels = [one.label for one in shown]
    return [
        replace(one, label=f"{one.label} ({labels[: number + 1].count(one.label)})")
        if labels.count(one.label) > 1
        else one
        for number, one in enumerate(shown)
    ]


def _line(
    one: Shown,
    rows: Sequence[Mapping[str, Any]],
    compared: Mapping[tuple[str, Budget], Comparison],
    paper: Mapping[float, float],
    tested: Callable[[Sequence[Row]], Interval],
) -> Line:
    scores = scores_by_budget(rows)
    entries = {
        budget: _entry(
            cell,
            scores[budget],
            compared.get((one.label, budget)),
            tested([row for row in rows if budget_of(row) == budget]),
        )
        for budget, cell in results.summarise(rows).items()
    }
    areas = curve_areas(rows)
    areas = areas[np.isfinite(areas)]
    clean = (rows[0]["n_test_clean"], rows[0]["n_test"]) if rows else (0, 0)
    return Line(
        label=one.label,
        entries=entries,
        group=one.group,
        note=one.note,
        area=float(areas.mean()) if len(areas) else None,
        paper=paper,
        method=one.method,
        clean=clean,
    )


def _entry(
    cell: results.Cell,
    scores: NDArray[np.float64],
    comparison: Comparison | None,
    images: Interval,
) -> Entry:
    interval = t_interval(scores)
    tests = [comparison.pooled, comparison.images, comparison.over_seeds] if comparison else []
    p_values = [test.holm for test in tests if not math.isnan(test.holm)]
    return Entry(
        mean=cell.mean,
        spread=cell.spread,
        low=interval.low if interval else math.nan,
        high=interval.high if interval else math.nan,
        clean=cell.clean,
        clean_spread=cell.clean_spread,
        runs=cell.runs,
        test_low=images.low,
        test_high=images.high,
        p_value=max(p_values, default=math.nan),
        mark=f" {comparison.mark}" if comparison and comparison.mark else "",
    )


def _notes(
    lines: Sequence[Line],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    compared: Mapping[tuple[str, Budget], Comparison],
    reference: str | None,
    *,
    by_patient: bool,
) -> list[str]:
    notes = ["Accuracy in percent: mean ± standard deviation over seeds."]
    if rows:
        how = (
            "choice of test images leaves open (bootstrap over patients)"
            if by_patient
            else "number of test images leaves open (Wilson); too narrow where a patient has "
            "several of them"
        )
        notes.append(f"95 % interval: what the {how}. The spread over seeds lacks it.")
    if any(line.area is not None for line in lines):
        notes.append("Area: mean accuracy over the logarithm of the training images.")
    if compared:
        notes.append(
            f"▲ better, ▼ worse than {reference}: McNemar's test over all answers and over images, "
            "and the bootstrap over seeds, each below .05 after Holm's correction."
        )
    leaking = next((line for line in lines if line.leaks), None)
    if leaking:
        clean, tested = leaking.clean
        [row, *_] = rows[leaking.label]
        notes += [CLEAN, leak_warning(row["dataset"], leaked=tested - clean, tested=tested)]
    if any('"text": "learned"' in row["chosen"] for own in rows.values() for row in own):
        notes.append(LEARNED)
    if any(line.paper for line in lines):
        notes.append("Paper: its numbers, on the whole collection and with its own models.")
    return notes


def show(table: ResultsTable) -> None:
    """Prints the table and its notes."""
    say(table.title)
    drawn = Table(box=None, pad_edge=False)
    for number, name in enumerate(table.header()):
        drawn.add_column(name, justify="left" if number == 0 else "right", no_wrap=number > 0)
    group = ""
    for name, cells in table.rows():
        if name != group:
            drawn.add_row(f"[bold]{escape(printable(name))}[/bold]")
            group = name
        drawn.add_row(*(escape(printable(cell)) for cell in cells))
    out.print(drawn)
    for note in table.notes:
        say(note)


def write(table: ResultsTable, folder: Path) -> list[Path]:
    """Writes the table as Markdown, CSV and LaTeX.

    Returns:
        The files.
    """
    texts = {
        "table.md": report.markdown(table),
        "table.csv": report.comma_separated(table),
        "table.tex": report.latex(table),
    }
    with disk_errors(folder):
        for name, text in texts.items():
            write_text(folder / name, text)
    return [folder / name for name in texts]
