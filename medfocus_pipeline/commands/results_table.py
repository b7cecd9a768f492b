"""The results table: from the stored runs of some rows to the terminal and to files."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from medfocus_pipeline.commands.output import out, say
from medfocus_pipeline.datasets.audit import leak_warning
from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.comparison import Comparison, compare
from medfocus_pipeline.evaluation.diagnostics import accuracy_interval
from medfocus_pipeline.evaluation.intervals import Interval, t_interval
from medfocus_pipeline.evaluation.predictions import of_runs, read_predictions
from medfocus_pipeline.evaluation.scores import TABLE, scored
from medfocus_pipeline.evaluation.statistics import Result, budget_of, curve_areas, scores_by_budget
from medfocus_pipeline.files import disk_errors, write_text
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.report import formats
from medfocus_pipeline.report.drawing import printable
from medfocus_pipeline.report.score_table import ResultsTable, TableCell, TableRow

CLEAN = "clean: without test images whose bytes or pixels are also among the training images"
LEARNED = "fusion: the encoder has no text tower, so the class embeddings were learned"


def build(
    title: str,
    rows: Sequence[TableRow],
    folder: Path,
    dataset: Dataset,
    *,
    reference: str | None = None,
) -> ResultsTable:
    """Reads the runs' results and sums them up.

    Args:
        rows: without cells.
        folder: of the results; every run must be there.
        dataset: has the paper's numbers, and classes and patients of the test images.
        reference: label of the row that others are tested against; None tests nothing.
    """
    rows, paper, patients = _distinct(rows), dataset.card.paper, dataset.manifest.patients
    keys = {run.key for row in rows for run in row.runs}
    predictions = results.read(folder, "predictions")
    runs = scored(of_runs(results.read(folder), keys), predictions, TABLE)
    found = {run["run_key"]: run for run in runs.to_pylist()}
    measured = {row.label: [found[run.key] for run in row.runs] for row in rows if row.runs}
    compared: dict[tuple[str, Budget], Comparison] = {}
    if reference in measured and len(measured) > 1:
        comparisons = compare(measured, predictions, reference=reference)
        compared = {(one.label, one.budget): one for one in comparisons}
    known = any(patients.values()) and bool(measured)
    full = [
        _row(
            row,
            measured.get(row.label, []),
            compared,
            paper.get(row.method, {}),
            lambda own: accuracy_interval(own, predictions if known else None, patients),
        )
        for row in rows
    ]
    budgets = list(dict.fromkeys(run.budget for row in rows for run in row.runs))
    notes = _notes(full, measured, compared, reference, by_patient=known)
    any_run = [run["run_key"] for own in measured.values() for run in own[:1]][:1]
    majority = _majority(predictions, any_run, dataset.manifest.classes)
    return ResultsTable(title, budgets, full, notes, majority)


def _majority(
    predictions: pa.Table, run_keys: Sequence[str], classes: Sequence[str]
) -> tuple[str, float] | None:
    """The most frequent class of the test images of a run, and its share."""
    for answers in read_predictions(predictions, run_keys).values():
        counts = np.bincount(answers.labels, minlength=len(classes))
        if len(counts) == len(classes) and counts.sum():
            place = int(counts.argmax())
            return classes[place], float(counts[place] / counts.sum())
    return None


def _distinct(rows: Sequence[TableRow]) -> list[TableRow]:
    """Labels that more than one row has get a number."""
    labels = [row.label for row in rows]
    return [
        replace(row, label=f"{row.label} ({labels[: number + 1].count(row.label)})")
        if labels.count(row.label) > 1
        else row
        for number, row in enumerate(rows)
    ]


def _row(
    row: TableRow,
    runs: Sequence[Mapping[str, Any]],
    compared: Mapping[tuple[str, Budget], Comparison],
    paper: Mapping[float, float],
    tested: Callable[[Sequence[Result]], Interval],
) -> TableRow:
    scores = scores_by_budget(runs)
    cells = {
        budget: _cell(
            cell,
            scores[budget],
            compared.get((row.label, budget)),
            tested([run for run in runs if budget_of(run) == budget]),
        )
        for budget, cell in results.summarise(runs).items()
    }
    areas = curve_areas(runs)
    areas = areas[np.isfinite(areas)]
    return replace(
        row,
        cells=cells,
        area=float(areas.mean()) if len(areas) else None,
        paper=paper,
        clean=(runs[0]["n_test_clean"], runs[0]["n_test"]) if runs else (0, 0),
    )


def _cell(
    cell: results.BudgetScore,
    scores: NDArray[np.float64],
    comparison: Comparison | None,
    images: Interval,
) -> TableCell:
    interval = t_interval(scores)
    tests = [comparison.pooled, comparison.images, comparison.over_seeds] if comparison else []
    p_values = [test.holm for test in tests if not math.isnan(test.holm)]
    return TableCell(
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
    rows: Sequence[TableRow],
    measured: Mapping[str, Sequence[Mapping[str, Any]]],
    compared: Mapping[tuple[str, Budget], Comparison],
    reference: str | None,
    *,
    by_patient: bool,
) -> list[str]:
    notes = ["Accuracy in percent: mean ± standard deviation over seeds."]
    if measured:
        how = (
            "choice of test images leaves open (bootstrap over patients)"
            if by_patient
            else "number of test images leaves open (Wilson); too narrow where a patient has "
            "several of them"
        )
        notes.append(f"95 % interval: what the {how}. The spread over seeds lacks it.")
    if any(row.area is not None for row in rows):
        notes.append("Area: mean accuracy over the logarithm of the training images.")
    if compared:
        notes.append(
            f"▲ better, ▼ worse than {reference}: McNemar's test over all answers and over images, "
            "and the bootstrap over seeds, each below .05 after Holm's correction."
        )
    leaking = next((row for row in rows if row.leaks), None)
    if leaking:
        clean, tested = leaking.clean
        [run, *_] = measured[leaking.label]
        notes += [CLEAN, leak_warning(run["dataset"], leaked=tested - clean, tested=tested)]
    if any('"text": "learned"' in run["chosen"] for own in measured.values() for run in own):
        notes.append(LEARNED)
    if any(row.paper for row in rows):
        notes.append("Paper: its numbers, on the whole collection and with its own models.")
    return notes


def show(table: ResultsTable) -> None:
    """Prints the table and its notes."""
    say(table.title)
    drawn = Table(box=None, pad_edge=False)
    for number, name in enumerate(table.header()):
        drawn.add_column(name, justify="left" if number == 0 else "right", no_wrap=number > 0)
    group = ""
    for name, cells in table.texts():
        if name != group:
            drawn.add_row(f"[bold]{escape(printable(name))}[/bold]")
            group = name
        drawn.add_row(*(escape(printable(cell)) for cell in cells))
    out.print(drawn)
    for note in (*table.notes, *table.details):
        say(note)


def write(table: ResultsTable, folder: Path) -> list[Path]:
    """Writes the table as Markdown, CSV and LaTeX.

    Returns:
        The files.
    """
    texts = {
        "table.md": formats.markdown(table),
        "table.csv": formats.comma_separated(table),
        "table.tex": formats.latex(table),
    }
    with disk_errors(folder):
        for name, text in texts.items():
            write_text(folder / name, text)
    return [folder / name for name in texts]
