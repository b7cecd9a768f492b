"""Accuracy against training data: one line a row of the table, the paper's points beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.report.colours import COLOURS, SERIES, series
from medfocus_pipeline.report.drawing import CARD, MUTED, Size, new_figure, shown, styled
from medfocus_pipeline.report.score_table import ResultsTable, TableCell, TableRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW = (9.0, 4.4), (3.1, 3.2)
"""Sizes of the curves on a desk and on a telephone."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One row of the table as a line of the accuracy figure.

    Attributes:
        number: counts the curves from 0, in the table's order.
        colour: name in `COLOURS`; ``muted`` for one that stays in the background.
        mark: as matplotlib calls it.
    """

    number: int
    row: TableRow
    colour: str
    mark: str

    @property
    def strong(self) -> bool:
        """Whether it stands in front, with a colour of its own."""
        return self.colour != "muted"


def curves(table: ResultsTable) -> list[Curve]:
    """The rows that have a number, ours or the paper's.

    The paper's methods come to the front, then the best rows, eight in all: more colours could
    not be told apart.
    """
    percents = {amount for kind, amount in table.budgets if kind == "fraction"}
    rows = [row for row in table.rows if row.cells or percents & set(row.paper)]
    ranked = sorted(rows, key=lambda row: (not (row.method and row.cells), -_best(row)))
    front = [row for row in rows if any(row is one for one in ranked[:SERIES])]
    found = []
    for number, row in enumerate(rows):
        places = [place for place, one in enumerate(front) if one is row]
        colour, mark = series(places[0]) if places else ("muted", "o")
        found.append(Curve(number, row, colour, mark))
    return found


def draw_accuracy(table: ResultsTable, *, size: Size = WIDE, legend: bool = True) -> "Figure":
    """Accuracy in percent over the training data, one line a row with its 95 % band.

    The paper's numbers are hollow marks (its figure 2). Percents and shots have a panel each.

    Args:
        legend: beside the panels.
    """
    kinds = list(dict.fromkeys(kind for kind, _ in table.budgets)) or ["fraction"]
    shape = (1, len(kinds)) if size[0] > size[1] else (len(kinds), 1)
    drawn = curves(table)
    with styled():
        figure = new_figure((size[0], size[1] * shape[0]))
        axes = figure.subplots(*shape, squeeze=False, sharey=True).ravel().tolist()
        for one, kind in zip(axes, kinds, strict=True):
            budgets = [budget for budget in table.budgets if budget[0] == kind]
            for curve in sorted(drawn, key=lambda curve: curve.strong):
                _draw_curve(one, curve, budgets)
            _finish_curves(one, budgets)
        axes[0].set_ylabel("accuracy, %")
        axes[0].set_ylim(*_range(table))
        if legend:
            _legend_of_curves(figure, drawn)
    return figure


def _draw_curve(axes: "Axes", curve: Curve, budgets: Sequence[Budget]) -> None:
    entries = [(budget[1], curve.row.cells.get(budget)) for budget in budgets]
    known = [(amount, entry) for amount, entry in entries if entry]
    colour = COLOURS[curve.colour].light
    level, width, alpha = (3, 1.8, 1.0) if curve.strong else (2, 0.8, 0.45)
    name = f"curve-{curve.number}"
    if known:
        x = [amount for amount, _ in known]
        bands = zip(*(_band(entry) for _, entry in known), strict=True)
        low, mean, high = ([100 * value for value in values] for values in bands)
        band = axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
        band.set(gid=f"{name}-band", visible=curve.strong)
        (line,) = axes.plot(x, mean, color=colour, linewidth=width, zorder=level, alpha=alpha)
        line.set(marker=curve.mark, markersize=5 if curve.strong else 2.5, gid=f"{name}-line")
    percents = [amount for kind, amount in budgets if kind == "fraction"]
    paper = [(amount, curve.row.paper[amount]) for amount in percents if amount in curve.row.paper]
    if paper:
        (marks,) = axes.plot(*zip(*paper, strict=True), linestyle="none", marker=curve.mark)
        size = 6.5 if curve.strong else 4
        marks.set(color=colour, markerfacecolor=CARD, markersize=size, zorder=level + 2)
        marks.set(alpha=alpha, gid=f"{name}-paper")


def _band(entry: TableCell) -> tuple[float, float, float]:
    """Low, mean and high: over seeds and test images, whichever reaches farther."""
    lows = [one for one in (entry.low, entry.test_low, entry.mean) if not math.isnan(one)]
    highs = [one for one in (entry.high, entry.test_high, entry.mean) if not math.isnan(one)]
    return min(lows), entry.mean, max(highs)


def _finish_curves(axes: "Axes", budgets: Sequence[Budget]) -> None:
    kind = budgets[0][0] if budgets else "fraction"
    amounts = [amount for _, amount in budgets]
    axes.set_xscale("log")
    axes.set_xticks(amounts, [f"{amount:g}" for amount in amounts])
    axes.minorticks_off()
    unit = "training images used, %" if kind == "fraction" else "training images a class"
    axes.set_xlabel(unit)
    if amounts:
        axes.set_xlim(min(amounts) / 1.15, max(amounts) * 1.15)
    axes.grid(visible=True, axis="y")
    axes.tick_params(length=3)


def _range(table: ResultsTable) -> tuple[float, float]:
    """Limits of the accuracies; wide bands are cut off, a line never is."""
    values = [
        100 * (entry.mean + sign * entry.spread)
        for row in table.rows
        for entry in row.cells.values()
        for sign in (-1, 1)
    ]
    values += [value for row in table.rows for value in row.paper.values()]
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return 0.0, 100.0
    return max(0.0, math.floor(min(known) / 5 - 0.4) * 5), min(101.0, max(known) + 3)


def _legend_of_curves(figure: "Figure", drawn: Sequence[Curve]) -> None:
    from matplotlib.lines import Line2D

    def handle(curve: Curve) -> Line2D:
        measured = bool(curve.row.cells)
        return Line2D(
            [],
            [],
            color=COLOURS[curve.colour].light,
            linestyle="-" if measured else "none",
            marker=curve.mark,
            markersize=5,
            markerfacecolor=None if measured else CARD,
        )

    front = [curve for curve in drawn if curve.strong]
    handles, names = [handle(curve) for curve in front], [shown(one.row.label) for one in front]
    if len(front) < len(drawn):
        handles.append(Line2D([], [], color=MUTED, linewidth=0.8))
        names.append(f"{len(drawn) - len(front)} more rows")
    if any(curve.row.paper for curve in drawn):
        hollow = Line2D([], [], color=MUTED, marker="o", linestyle="none", markerfacecolor=CARD)
        handles.append(hollow)
        names.append("hollow: the paper")
    figure.legend(handles, names, loc="outside right upper")


def _best(row: TableRow) -> float:
    means = [entry.mean for entry in row.cells.values()]
    return means[-1] if means else -1.0
