"""A study's matrix as text, as a picture, and as a page of its own."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medfocus_pipeline.evaluation.matrix import SCORES, Matrix, MatrixCell, Measure, Pair, Score
from medfocus_pipeline.report.colours import HEAT
from medfocus_pipeline.report.content import Chapter, Drawing, Section
from medfocus_pipeline.report.drawing import (
    ACCENT,
    BAD,
    CARD,
    new_figure,
    shown,
    styled,
)
from medfocus_pipeline.report.formats import ampersands, csv_text, pipes, tex
from medfocus_pipeline.report.page import write_study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

NAMES: dict[Score, str] = {
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "accuracy": "accuracy",
}
_CAPTION = (
    "Balanced accuracy in percent, and its difference to source-only: blue better, red worse. The "
    "same numbers are in the tables."
)

_WIDE = 6
"""Pairs of a table side by side."""

_FAR = 0.3
"""Difference that has the full colour."""


def sections(matrix: Matrix) -> Iterator[Section]:
    """Every table: a score each, then how far apart the domains are."""
    for start in range(0, len(matrix.pairs), _WIDE):
        pairs = matrix.pairs[start : start + _WIDE]
        columns = [f"{source} → {target}" for source, target in pairs]
        for score in SCORES:
            rows = [
                [name, *(cell_text(matrix.cells[name, pair], score) for pair in pairs)]
                for name in matrix.methods
            ]
            yield Section(f"{NAMES[score]}, %", [f"{NAMES[score]}, %", *columns], rows)
        rows = [
            [name, *(_distance(matrix.cells[name, pair]) for pair in pairs)]
            for name in matrix.methods
        ]
        rows = [row for row in rows if any(row[1:])]
        if rows:
            yield Section("proxy A-distance", ["proxy A-distance", *columns], rows)


def cell_text(cell: MatrixCell, score: Score) -> str:
    """``71.2 ± 1.3 [64, 78] ▲``: mean, spread over seeds, interval of the test images, mark."""
    one = cell.measures[score]
    if math.isnan(one.mean):
        return "-"
    low, high = (100 * end for end in (one.interval.low, one.interval.high))
    interval = "" if math.isnan(low) else f" [{low:.0f}, {high:.0f}]"
    mark = f" {cell.mark}" if cell.mark else ""
    return f"{100 * one.mean:.1f} ± {100 * one.spread:.1f}{interval}{mark}"


def _distance(cell: MatrixCell) -> str:
    return "" if math.isnan(cell.distance) else f"{cell.distance:.2f}"


def matrix_markdown(matrix: Matrix) -> str:
    """All tables as Markdown."""
    text = [f"### {matrix.title}", ""]
    for section in sections(matrix):
        ruler = ["---", *["---:"] * (len(section.header) - 1)]
        text += [pipes(section.header), pipes(ruler), *map(pipes, section.rows), ""]
    return "\n".join([*text, *(f"{note}\n" for note in matrix.notes)])


def matrix_latex(matrix: Matrix) -> str:
    r"""All tables as one LaTeX ``table*`` (packages booktabs, graphicx)."""
    lines = [r"% \usepackage{booktabs,graphicx}", r"\begin{table*}", r"\centering"]
    lines += [rf"\caption{{{tex(' '.join([f'{matrix.title}.', *matrix.notes]))}}}"]
    for section in sections(matrix):
        columns = "l" + "r" * (len(section.header) - 1)
        lines += [r"\resizebox{\textwidth}{!}{%", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
        lines += [ampersands(map(tex, section.header)).replace("→", r"$\to$"), r"\midrule"]
        lines += [ampersands(map(tex, row)) for row in section.rows]
        lines += [r"\bottomrule", r"\end{tabular}}", r"\medskip", ""]
    return "\n".join([*lines, r"\end{table*}", ""])


def matrix_csv(matrix: Matrix) -> str:
    """One line a method, pair and score, every number in full; scores in percent."""
    columns = ["method", "source", "target", "score", "mean", "spread", "low", "high"]
    columns += ["difference", "mark", "distance", "seeds", "n_test"]
    rows = []
    for (name, (source, target)), cell in matrix.cells.items():
        for score, one in cell.measures.items():
            ends = (one.mean, one.spread, one.interval.low, one.interval.high, one.difference)
            numbers = ["" if math.isnan(end) else f"{100 * end:.4f}" for end in ends]
            place = [name, source, target, score]
            rest = [cell.mark, _distance(cell), matrix.seeds, matrix.tested[target]]
            rows.append([*place, *numbers, *rest])
    return csv_text(columns, rows)


def draw_matrix(matrix: Matrix) -> "Figure":
    """A heat map source x target for each method: balanced accuracy, coloured by its difference.

    Of source-only the colour is the score itself; blue is better than source-only, red worse.
    """
    sources = list(dict.fromkeys(source for source, _ in matrix.pairs))
    aims = {target for _, target in matrix.pairs}
    # Sources first, so that rows and columns have one order.
    targets = [*(one for one in sources if one in aims), *sorted(aims - set(sources))]
    across = min(4, len(matrix.methods))
    down = math.ceil(len(matrix.methods) / across)
    with styled():
        figure = new_figure(
            (2.1 + across * (0.5 + 0.62 * len(targets)), down * (0.8 + 0.5 * len(sources)))
        )
        panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, name in zip(panels, matrix.methods, strict=False):
            drawn = _panel(axes, matrix, name, sources, targets)
        for axes in panels[len(matrix.methods) :]:
            axes.set_visible(False)
        scale = figure.colorbar(drawn, ax=panels.tolist(), shrink=0.8, aspect=30, pad=0.02)
        ends = f"≤ {-100 * _FAR:.0f}", "0", f"≥ +{100 * _FAR:.0f}"
        scale.set_ticks([-HEAT, 0, HEAT], labels=ends)
        scale.set_label("difference from source-only, points")
        scale.outline.set_visible(False)
        scale.ax.set_ylim(-HEAT, HEAT)
        figure.supxlabel("target", fontsize=8.5)
        figure.supylabel("source", fontsize=8.5)
    return figure


def _panel(
    axes: "Axes", matrix: Matrix, name: str, sources: Sequence[str], targets: Sequence[str]
) -> "AxesImage":
    from matplotlib.colors import LinearSegmentedColormap

    score = SCORES[0]
    colours = np.full((len(sources), len(targets)), np.nan)
    for row, source in enumerate(sources):
        for column, target in enumerate(targets):
            pair: Pair = (source, target)
            if pair not in matrix.pairs:
                continue
            cell = matrix.cells[name, pair]
            one = cell.measures[score]
            colours[row, column] = _colour(one)
            text = f"{100 * one.mean:.1f}\n{100 * one.difference:+.1f} {cell.mark}".rstrip()
            axes.text(column, row, text, ha="center", va="center", fontsize=6.5)
    heat = LinearSegmentedColormap.from_list("difference", [BAD, CARD, ACCENT])
    drawn = axes.imshow(colours * HEAT, cmap=heat, vmin=-1, vmax=1)
    axes.set_title(shown(name))
    axes.set_xticks(range(len(targets)), [shown(one) for one in targets], rotation=35, ha="right")
    axes.set_yticks(range(len(sources)), [shown(one) for one in sources])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return drawn


def _colour(one: Measure) -> float:
    return 0.0 if math.isnan(one.difference) else float(np.clip(one.difference / _FAR, -1, 1))


def write_matrix(matrix: Matrix, folder: Path) -> list[Path]:
    """Writes ``matrix.md``, ``.csv``, ``.tex``, ``.png``, ``.svg`` and ``index.html``.

    Returns:
        The files, the page first.

    Raises:
        StoreError: the disk is full or read-only.
    """
    heat = Drawing("matrix", _CAPTION, partial(draw_matrix, matrix))
    study = Chapter("matrix", matrix.title, matrix.notes, [heat], list(sections(matrix)))
    texts = {
        "matrix.md": matrix_markdown(matrix),
        "matrix.csv": matrix_csv(matrix),
        "matrix.tex": matrix_latex(matrix),
    }
    return write_study(study, folder, texts)
