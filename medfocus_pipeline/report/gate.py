"""The gate's table as text, as curves, and as a page of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medfocus_pipeline.evaluation.gate_reports import SIDES, TEST, ClassScores, MethodReport
from medfocus_pipeline.report.colours import COLOURS, SERIES, series
from medfocus_pipeline.report.content import Chapter, Drawing, Gallery, Section
from medfocus_pipeline.report.drawing import new_figure, shown, styled
from medfocus_pipeline.report.formats import csv_text, pipes
from medfocus_pipeline.report.page import write_study
from medfocus_pipeline.report.score_table import NEEDS_WEIGHTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTION = (
    "ROC and precision-recall curves, medical is positive: a row a split, a line a method. The "
    "areas are in the tables."
)


@dataclass(frozen=True, slots=True, eq=False)
class GateReport:
    """What `write_gate` shows.

    Attributes:
        methods: lines of the table, at least one.
        best: of them, chosen without the test images.
        notes: a paragraph each.
        errors: test images that `best` takes for the other side.
        lacking: names of methods that cannot run here; the notes say why.
    """

    title: str
    methods: Sequence[MethodReport]
    best: MethodReport
    notes: Sequence[str]
    errors: Gallery
    lacking: Sequence[str] = ()


def sections(report: GateReport) -> list[Section]:
    """A table of all methods, then one a split: the seed's report."""
    methods = report.methods
    splits = list(methods[0].splits)
    accuracies = [f"accuracy, {split}" for split in splits]
    ends = ["AUROC, test", "threshold", "chosen on"]
    summary = [
        [
            one.name,
            one.learns_from,
            *(_percent(one.splits[split].accuracy) for split in splits),
            *(_percent(side.recall) for side in one.splits[TEST].sides),
            f"{one.splits[TEST].auroc:.3f}",
            f"{one.threshold:.4g}",
            one.chosen_on,
        ]
        for one in methods
    ]
    recalls = [f"recall, {side}, test" for side in SIDES]
    header = ["method", "learns from", *accuracies, *recalls, *ends]
    blank = ["-"] * (len(header) - 3)
    summary += [[name, "both sides", NEEDS_WEIGHTS, *blank] for name in report.lacking]
    return [
        Section("All methods, %", header, summary),
        *(_split_section(methods, split) for split in splits),
    ]


def _split_section(methods: Sequence[MethodReport], split: str) -> Section:
    first = methods[0].splits[split]
    sides = [f"{name} (n = {one.support:,})" for name, one in zip(SIDES, first.sides, strict=True)]
    header = [f"{split}: P / R / F1, %", "accuracy", *sides, "macro", "weighted", "AUROC", "AP"]
    rows = [
        [
            one.name,
            _percent(report.accuracy),
            *map(_scores, (*report.sides, report.macro, report.weighted)),
            f"{report.auroc:.3f}",
            f"{report.average_precision:.3f}",
        ]
        for one in methods
        for report in (one.splits[split],)
    ]
    return Section(f"{split}: precision / recall / F1, %", header, rows)


def _scores(one: ClassScores) -> str:
    return " / ".join(f"{100 * value:.0f}" for value in (one.precision, one.recall, one.f1))


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def gate_markdown(report: GateReport) -> str:
    """All tables as Markdown."""
    text = [f"### {report.title}", ""]
    for section in sections(report):
        ruler = ["---", *["---:"] * (len(section.header) - 1)]
        text += [f"#### {section.title}", "", pipes(section.header), pipes(ruler)]
        text += [*map(pipes, section.rows), ""]
    return "\n".join([*text, *(f"{note}\n" for note in report.notes)])


def gate_csv(report: GateReport) -> str:
    """One line a method, split and class or average, every number in full; shares in [0, 1]."""
    columns = ["method", "learns_from", "split", "of", "precision", "recall", "f1", "support"]
    columns += ["accuracy", "auroc", "average_precision", "threshold", "chosen_on"]
    rows = []
    for one in report.methods:
        for split, scores in one.splits.items():
            parts = zip(SIDES, scores.sides, strict=True)
            averages: Mapping[str, ClassScores] = {
                **dict(parts),
                "macro average": scores.macro,
                "weighted average": scores.weighted,
            }
            for name, own in averages.items():
                place = [one.name, one.learns_from, split, name]
                numbers = [own.precision, own.recall, own.f1, own.support]
                whole = [scores.accuracy, scores.auroc, scores.average_precision, one.threshold]
                rows.append([*place, *numbers, *whole, one.chosen_on])
    return csv_text(columns, rows)


def draw_curves(methods: Sequence[MethodReport]) -> "Figure":
    """ROC on the left, precision over recall on the right; a row a split."""
    splits = list(methods[0].splits)
    with styled():
        figure = new_figure((9.6, 0.6 + 2.7 * len(splits)))
        panels = figure.subplots(len(splits), 2, squeeze=False)
        for (left, right), split in zip(panels, splits, strict=True):
            for number, one in enumerate(methods):
                colour = COLOURS[series(number)[0]].light
                report, dash = one.splits[split], "--" if number >= SERIES else "-"
                for axes, curve in ((left, report.roc), (right, report.precision_recall)):
                    axes.plot(*curve, dash, color=colour, linewidth=1.3, label=shown(one.name))
            left.set(xlabel="false positive rate", ylabel="true positive rate")
            right.set(xlabel="recall", ylabel="precision")
            for axes, name in ((left, "ROC"), (right, "precision and recall")):
                axes.set(title=f"{split}: {name}", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
                axes.grid(visible=True)
        panels[0][1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=7)
    return figure


def write_gate(report: GateReport, folder: Path) -> list[Path]:
    """Writes ``index.html``, ``gate.md``, ``gate.csv``, ``gate.png`` and ``gate.svg``.

    Returns:
        The files, the page first.

    Raises:
        StoreError: the disk is full or read-only.
    """
    curves = Drawing("gate", CAPTION, partial(draw_curves, report.methods))
    tables, errors = sections(report), [report.errors]
    study = Chapter("gate", report.title, report.notes, [curves], tables, errors)
    texts = {"gate.md": gate_markdown(report), "gate.csv": gate_csv(report)}
    return write_study(study, folder, texts)
