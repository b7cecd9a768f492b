"""The report's figures, drawn by matplotlib, for files and for the page."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medfocus_pipeline.report.colours import COLOURS, HEAT, series
from medfocus_pipeline.report.content import EmbeddingMap, Report, RowDetail
from medfocus_pipeline.report.curves import draw_accuracy
from medfocus_pipeline.report.drawing import (
    ACCENT,
    BAD,
    CARD,
    INK,
    LONGEST,
    MUTED,
    Size,
    new_figure,
    shown,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(report: Report) -> dict[str, "Figure"]:
    """Every figure of a report, by the name of its file without suffix."""
    found = {"accuracy": draw_accuracy(report.table)}
    for number, cell in enumerate(report.cells, 1):
        name = f"{number}-{_slug(cell.label)}"
        found[f"confusion-{name}"] = draw_confusion(cell, report.classes)
        found[f"reliability-{name}"] = draw_reliability(cell)
        found[f"recall-{name}"] = draw_recalls(cell, report.classes)
    for chapter in report.chapters:
        found |= {drawing.name: drawing.draw() for drawing in chapter.drawings}
    for number, one in enumerate(report.maps, 1):
        found[f"map-{number}-{_slug(one.title)}"] = draw_map(one, report.classes)
    return found


def draw_confusion(cell: RowDetail, classes: Sequence[str]) -> "Figure":
    """The confusion matrix as shares of each true class, with counts."""
    names = [shown(name) for name in classes]
    side = 1.9 + 0.62 * len(names)
    with styled():
        from matplotlib.colors import LinearSegmentedColormap

        figure = new_figure((side + 0.6, side))
        one = figure.subplots()
        heat = LinearSegmentedColormap.from_list("heat", [CARD, ACCENT])
        one.imshow(cell.shares * HEAT, cmap=heat, vmin=0, vmax=1)
        for true, row in enumerate(cell.shares):
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


def draw_reliability(cell: RowDetail, *, size: Size = (3.0, 3.0), titled: bool = True) -> "Figure":
    """Accuracy over confidence in bins; a mark's area is the bin's share of the answers."""
    bins = [one for one in cell.bins if one.count]
    total = sum(one.count for one in bins)
    with styled():
        figure = new_figure(size)
        one = figure.subplots()
        one.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        x, y = [100 * one.confidence for one in bins], [100 * one.accuracy for one in bins]
        for confidence, accuracy in zip(x, y, strict=True):
            one.plot([confidence] * 2, [confidence, accuracy], color=BAD, linewidth=1.6)
        one.plot(x, y, color=ACCENT, linewidth=1.4)
        areas = [18 + 200 * bin_.count / total for bin_ in bins]
        one.scatter(x, y, s=areas, color=ACCENT, edgecolor=CARD, linewidth=0.8, zorder=3)
        one.set(xlim=(0, 102), ylim=(0, 102), xlabel="confidence, %", ylabel="right, %")
        one.set_aspect("equal")
        one.grid(visible=True)
        if titled:
            _title(figure, cell)
    return figure


def draw_recalls(cell: RowDetail, classes: Sequence[str]) -> "Figure":
    """Recall of each class in percent, with its standard deviation over runs."""
    means = [100 * recall.mean for recall in cell.recalls]
    spreads = [100 * recall.spread for recall in cell.recalls]
    with styled():
        figure = new_figure((5.2, 1.0 + 0.34 * len(classes)))
        one = figure.subplots()
        rows = np.arange(len(classes))
        one.barh(rows, means, color=ACCENT, height=0.62)
        one.errorbar(means, rows, xerr=spreads, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        names = [
            f"{shown(name)} ({recall.images})"
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
    with styled():
        from matplotlib.lines import Line2D

        figure = new_figure((4.0 * count + 1.6, 4.2))
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
        looks = [(shown(name), *_look(label)) for label, name in enumerate(classes)]
        handles = [
            Line2D([], [], color=colour, marker=mark, linestyle="none", label=name, markersize=5)
            for name, colour, mark in looks
        ]
        figure.legend(handles=handles, loc="outside right upper", title="hollow: training")
    return figure


def _look(label: int) -> tuple[str, str]:
    """Colour and mark of a class."""
    name, mark = series(label)
    return COLOURS[name].light, mark


def _title(figure: "Figure", cell: RowDetail) -> None:
    text = f"{shown(cell.label)}, {cell.budget}"
    figure.suptitle(text, x=0.01, ha="left", fontsize=9.5, wrap=True)


def _slug(text: str) -> str:
    """A part of a file name: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:LONGEST].strip("-") or "row"
