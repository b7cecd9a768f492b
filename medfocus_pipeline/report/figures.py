"""The report's figures, drawn by matplotlib, for files and for the page."""

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medfocus_pipeline.datasets.splits import Budget
from medfocus_pipeline.report.colours import COLOURS, HEAT, SERIES, series
from medfocus_pipeline.report.content import Cell, EmbeddingMap, Report
from medfocus_pipeline.report.table import Line, ResultsTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Size = tuple[float, float]
"""Width and height in inches."""

WIDE, NARROW = (9.0, 4.4), (3.5, 3.5)
"""Sizes of the curves on a desk and on a telephone."""

_DOTS = 160
"""Of a PNG, an inch."""

_LONGEST = 40
"""Letters of a name in a figure."""

_INK, _MUTED, _RULE, _CARD, _ACCENT, _BAD = (
    COLOURS[name].light for name in ("ink", "muted", "rule", "card", "accent", "bad")
)

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "medfocus",
    # A class may be called $x$: that is a name, not a formula.
    "text.parse_math": False,
    "text.usetex": False,
    "text.color": _INK,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": _RULE,
    "grid.linewidth": 0.8,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "legend.frameon": False,
    "axes.unicode_minus": True,
}


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One row of the table as a line of the accuracy figure.

    Attributes:
        number: counts the curves from 0, in the table's order.
        colour: name in `COLOURS`; ``muted`` for one that stays in the background.
        mark: as matplotlib calls it.
    """

    number: int
    line: Line
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
    lines = [line for line in table.lines if line.entries or percents & set(line.paper)]
    ranked = sorted(lines, key=lambda line: (not (line.method and line.entries), -_best(line)))
    front = [line for line in lines if any(line is one for one in ranked[:SERIES])]
    found = []
    for number, line in enumerate(lines):
        places = [place for place, one in enumerate(front) if one is line]
        colour, mark = series(places[0]) if places else ("muted", "o")
        found.append(Curve(number, line, colour, mark))
    return found


def draw(report: Report) -> dict[str, "Figure"]:
    """Every figure of a report, by the name of its file without suffix."""
    found = {"accuracy": draw_accuracy(report.table)}
    for number, cell in enumerate(report.cells, 1):
        name = f"{number}-{_slug(cell.label)}"
        found[f"confusion-{name}"] = draw_confusion(cell, report.classes)
        found[f"reliability-{name}"] = draw_reliability(cell)
        found[f"recall-{name}"] = draw_recalls(cell, report.classes)
    for number, one in enumerate(report.maps, 1):
        found[f"map-{number}-{_slug(one.title)}"] = draw_map(one, report.classes)
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
    with _style():
        figure = _figure((size[0], size[1] * shape[0]))
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


def draw_confusion(cell: Cell, classes: Sequence[str]) -> "Figure":
    """The confusion matrix as shares of each true class, with counts."""
    names = [_shown(name) for name in classes]
    total = cell.confusion.sum(axis=1, keepdims=True)
    shares = cell.confusion / np.maximum(total, 1)
    side = 1.9 + 0.62 * len(names)
    with _style():
        from matplotlib.colors import LinearSegmentedColormap

        figure = _figure((side + 0.6, side))
        one = figure.subplots()
        heat = LinearSegmentedColormap.from_list("heat", [_CARD, _ACCENT])
        one.imshow(shares * HEAT, cmap=heat, vmin=0, vmax=1)
        for true, row in enumerate(shares):
            for predicted, share in enumerate(row):
                text = f"{100 * share:.0f} %\n{cell.confusion[true, predicted]}"
                one.text(predicted, true, text, ha="center", va="center", fontsize=7)
        one.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
        one.set_yticks(range(len(names)), names)
        one.set_xlabel("predicted")
        one.set_ylabel("true class")
        one.tick_params(length=0)
        one.spines[:].set_visible(False)
        _title(figure, cell)
    return figure


def draw_reliability(cell: Cell, *, size: Size = (3.6, 3.6), titled: bool = True) -> "Figure":
    """Accuracy over confidence in bins; a mark's area is the bin's share of the answers."""
    bins = [one for one in cell.bins if one.count]
    total = sum(one.count for one in bins)
    with _style():
        figure = _figure(size)
        one = figure.subplots()
        one.plot([0, 100], [0, 100], color=_MUTED, linewidth=1, linestyle=(0, (4, 3)))
        x, y = (
            [100 * share for share in _column(bins, name)] for name in ("confidence", "accuracy")
        )
        for confidence, accuracy in zip(x, y, strict=True):
            one.plot([confidence] * 2, [confidence, accuracy], color=_BAD, linewidth=1.6)
        one.plot(x, y, color=_ACCENT, linewidth=1.4)
        areas = [18 + 200 * bin_.count / total for bin_ in bins]
        one.scatter(x, y, s=areas, color=_ACCENT, edgecolor=_CARD, linewidth=0.8, zorder=3)
        one.set(xlim=(0, 102), ylim=(0, 102), xlabel="confidence, %", ylabel="right, %")
        one.set_aspect("equal")
        one.grid(visible=True)
        if titled:
            _title(figure, cell)
    return figure


def draw_recalls(cell: Cell, classes: Sequence[str]) -> "Figure":
    """Recall of each class in percent, with its standard deviation over runs."""
    means, spreads = (
        np.array([100 * getattr(recall, name) for recall in cell.recalls])
        for name in ("mean", "spread")
    )
    with _style():
        figure = _figure((5.2, 1.0 + 0.34 * len(classes)))
        one = figure.subplots()
        rows = np.arange(len(classes))
        one.barh(rows, means, color=_ACCENT, height=0.62)
        one.errorbar(means, rows, xerr=spreads, fmt="none", ecolor=_INK, elinewidth=1, capsize=2)
        names = [
            f"{_shown(name)} ({recall.images})"
            for name, recall in zip(classes, cell.recalls, strict=True)
        ]
        one.set_yticks(rows, names)
        one.invert_yaxis()
        one.set(xlim=(0, 100), xlabel="recall, % (test images in brackets)")
        one.grid(visible=True, axis="x")
        _title(figure, cell)
    return figure


def draw_map(map_: EmbeddingMap, classes: Sequence[str]) -> "Figure":
    """Every layout of a map; training images are hollow, test images are full."""
    count = max(1, len(map_.layouts))
    test = np.array([side == "test" for side in map_.sides], dtype=np.bool_)
    with _style():
        from matplotlib.lines import Line2D

        figure = _figure((4.0 * count + 1.6, 4.2))
        axes = figure.subplots(1, count, squeeze=False).ravel().tolist()
        for one, (name, points) in zip(axes, map_.layouts.items(), strict=False):
            for label in range(len(classes)):
                colour, mark = _look(label)
                for own, face in ((~test, "none"), (test, colour)):
                    x, y = points[own & (map_.labels == label)].T
                    one.scatter(x, y, 14, marker=mark, facecolor=face, edgecolor=colour, lw=0.8)
            one.set(xticks=[], yticks=[], title=name)
            one.spines[:].set_visible(False)
            one.set_aspect("equal", adjustable="datalim")
        looks = [(_shown(name), *_look(label)) for label, name in enumerate(classes)]
        handles = [
            Line2D([], [], color=colour, marker=mark, linestyle="none", label=name, markersize=5)
            for name, colour, mark in looks
        ]
        figure.legend(handles=handles, loc="outside right upper", title="hollow: training")
    return figure


def as_svg(figure: "Figure") -> str:
    """A figure as an SVG file, with text as text; the same bytes each time."""
    return _saved(figure, "svg").decode()


def as_png(figure: "Figure") -> bytes:
    """A figure as a PNG file at 160 dots an inch."""
    return _saved(figure, "png")


def as_markup(figure: "Figure", *, name: str) -> str:
    """A figure as an ``<svg>`` element of a page, in the page's own colours.

    Args:
        name: set before every id in it, for a page has more than one figure.

    Returns:
        The element: without prologue, without a background, and hidden from screen readers,
        which the page gives the same in words.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    text = as_svg(figure)
    body = text[text.index("<svg") :]
    box = re.search(r'viewBox="([^"]*)"', body)
    inner = body[body.index(">") + 1 :]
    inner = re.sub(r"<metadata>.*?</metadata>|<style[ >].*?</style>", "", inner, flags=re.DOTALL)
    inner = re.sub(r"<!--.*?-->\s*", "", inner, flags=re.DOTALL)
    inner = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", inner)
    inner = re.sub(r'style="[^"]*"', lambda found: _in_variables(found[0]), inner)
    view = box[1] if box else "0 0 1 1"
    return f'<svg viewBox="{view}" aria-hidden="true" focusable="false">{inner}'


def _in_variables(style: str) -> str:
    """A style with the page's variables in place of the light colours."""
    for name, tone in COLOURS.items():
        style = style.replace(tone.light, f"var(--{name})")
    return style


def _saved(figure: "Figure", kind: str) -> bytes:
    file = io.BytesIO()
    # The same bytes for the same report: no date.
    metadata = {"Date": None} if kind == "svg" else {}
    with _style(), warnings.catch_warnings():
        # A name in a script that matplotlib's font lacks: the page has it in the reader's font.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(file, format=kind, dpi=_DOTS, metadata=metadata)
    return file.getvalue()


@contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's settings, as they were before when it is over."""
    import matplotlib as mpl

    with mpl.rc_context(_STYLE):
        yield


def _figure(size: Size) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained", facecolor=_CARD)


def _draw_curve(axes: "Axes", curve: Curve, budgets: Sequence[Budget]) -> None:
    entries = [(budget[1], curve.line.entries.get(budget)) for budget in budgets]
    known = [(amount, entry) for amount, entry in entries if entry]
    colour = COLOURS[curve.colour].light
    x = [amount for amount, _ in known]
    low, mean, high = (
        [100 * getattr(entry, name) for _, entry in known] for name in ("low", "mean", "high")
    )
    level, width = (3, 1.8) if curve.strong else (2, 0.8)
    name = f"curve-{curve.number}"
    if known:
        band = axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
        band.set(gid=f"{name}-band", visible=curve.strong)
        style = {"marker": curve.mark, "markersize": 5 if curve.strong else 2.5}
        (line,) = axes.plot(x, mean, color=colour, linewidth=width, zorder=level, **style)
        line.set_gid(f"{name}-line")
    percents = [amount for kind, amount in budgets if kind == "fraction"]
    paper = [
        (amount, curve.line.paper[amount]) for amount in percents if amount in curve.line.paper
    ]
    if paper:
        (marks,) = axes.plot(*zip(*paper, strict=True), linestyle="none", marker=curve.mark)
        size = 6.5 if curve.strong else 4
        marks.set(color=colour, markerfacecolor=_CARD, markersize=size, zorder=level + 2)
        marks.set_gid(f"{name}-paper")


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
        for line in table.lines
        for entry in line.entries.values()
        for sign in (-1, 1)
    ]
    values += [value for line in table.lines for value in line.paper.values()]
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return 0.0, 100.0
    return max(0.0, math.floor(min(known) / 5 - 0.4) * 5), min(101.0, max(known) + 3)


def _legend_of_curves(figure: "Figure", drawn: Sequence[Curve]) -> None:
    from matplotlib.lines import Line2D

    def handle(curve: Curve) -> Line2D:
        measured = bool(curve.line.entries)
        return Line2D(
            [],
            [],
            color=COLOURS[curve.colour].light,
            linestyle="-" if measured else "none",
            marker=curve.mark,
            markersize=5,
            markerfacecolor=None if measured else _CARD,
        )

    front = [curve for curve in drawn if curve.strong]
    handles, names = [handle(curve) for curve in front], [_shown(one.line.label) for one in front]
    if len(front) < len(drawn):
        handles.append(Line2D([], [], color=_MUTED, linewidth=0.8))
        names.append(f"{len(drawn) - len(front)} more rows")
    if any(curve.line.paper for curve in drawn):
        hollow = {"marker": "o", "linestyle": "none", "markerfacecolor": _CARD}
        handles.append(Line2D([], [], color=_MUTED, **hollow))
        names.append("hollow: the paper")
    figure.legend(handles, names, loc="outside right upper")


def _look(label: int) -> tuple[str, str]:
    """Colour and mark of a class."""
    name, mark = series(label)
    return COLOURS[name].light, mark


def _best(line: Line) -> float:
    means = [entry.mean for entry in line.entries.values()]
    return means[-1] if means else -1.0


def _column(bins: Sequence[object], name: str) -> list[float]:
    return [getattr(one, name) for one in bins]


def _title(figure: "Figure", cell: Cell) -> None:
    text = f"{_shown(cell.label)}, {cell.budget}"
    figure.suptitle(text, x=0.01, ha="left", fontsize=9.5, wrap=True)


def _shown(name: str) -> str:
    """A name that is fit to be drawn: no control characters, not too long, never empty.

    A leading underscore would tell matplotlib to leave it out of a legend.
    """
    plain = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name
    )
    short = plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1]}…"
    return f" {short}" if short.startswith("_") else short or " "


def _slug(text: str) -> str:
    """A part of a file name: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST].strip("-") or "row"
