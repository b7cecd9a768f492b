"""What the page's template needs of a report, worked out beforehand: it only lays things out."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.report.colours import HEAT, MARKS, series
from medfocus_pipeline.report.content import EmbeddingMap, Picture, Tile
from medfocus_pipeline.report.score_table import ResultsTable, TableCell, TableRow
from medfocus_pipeline.types import JSON, FloatArray, IntArray

SIDE = 1000
"""Of the square that a map's points are in."""

_MARGIN = 40

_BARS = 5
"""Probabilities that a tile shows."""


@dataclass(frozen=True, slots=True)
class PageCell:
    """One cell of the results table, as the page lays it out.

    Attributes:
        order: what a column is sorted by; None stands last, whichever way it is sorted.
        best: of its column.
        hint: its 95 % interval, in words.
    """

    text: str
    order: float | None = None
    best: bool = False
    hint: str = ""


@dataclass(frozen=True, slots=True)
class PageRow:
    """One row of the results table as the page lays it out, that of the clean images below it.

    Attributes:
        of: the row, whose note stands instead of `ours` if there are no numbers.
        ours, area, paper: the columns; area has one or none.
        clean: of the columns of `ours`; empty if no test image leaks.
    """

    of: TableRow
    ours: Sequence[PageCell]
    area: Sequence[PageCell]
    paper: Sequence[PageCell]
    clean: Sequence[str]


@dataclass(frozen=True, slots=True)
class Bar:
    """One class's probability in a tile, in [0, 1]."""

    label: str
    share: float
    true: bool
    predicted: bool


@dataclass(frozen=True, slots=True)
class Point:
    """One image of a map; x and y are in [0, 1000], y from the top."""

    x: int
    y: int
    label: int
    side: str
    colour: str
    shape: int


def page_rows(table: ResultsTable) -> list[PageRow]:
    """The rows of the results table, in its order."""
    best = {budget: max(_means(table, budget), default=math.nan) for budget in table.budgets}
    areas = [row.area for row in table.rows if row.area is not None]
    top = max(areas, default=math.nan)
    return [
        PageRow(
            of=row,
            ours=[_value(row.cells.get(budget), best[budget]) for budget in table.budgets],
            area=[_number(row.area, top, digits=3)] if table.has_areas else [],
            paper=_paper(table, row),
            clean=table.clean_texts(row),
        )
        for row in table.rows
    ]


def choices(rows: Sequence[PageRow]) -> dict[str, list[str]]:
    """What the table can be filtered by: ``head`` and ``focus``, in the order of the rows."""
    return {
        "head": list(dict.fromkeys(row.of.head for row in rows if row.of.head)),
        "focus": list(dict.fromkeys(row.of.focus for row in rows if row.of.focus)),
    }


def bars(tile: Tile) -> list[Bar]:
    """The five greatest probabilities of a tile, the true class's among them."""
    ranked = sorted(tile.probabilities.items(), key=lambda one: -one[1])
    shown = ranked[:_BARS]
    if tile.label in tile.probabilities and tile.label not in dict(shown):
        shown = [*shown[: _BARS - 1], (tile.label, tile.probabilities[tile.label])]
    return [
        Bar(name, share, true=name == tile.label, predicted=name == tile.predicted)
        for name, share in shown
    ]


def heat(share: float) -> str:
    """Percent of colour behind a number, such that it can be read."""
    return f"{100 * HEAT * share:.0f}%"


def legend(index: int) -> tuple[str, int]:
    """Colour and number of the shape of a class."""
    colour, mark = series(index)
    return colour, MARKS.index(mark)


def coordinates(points: FloatArray) -> IntArray:
    """``(n, 2) int64``: the points in the map's square, both axes at one scale, y downwards."""
    if not len(points):
        return np.empty((0, 2), np.int64)
    low, high = points.min(axis=0), points.max(axis=0)
    extent = max(float((high - low).max()), 1e-12)
    scaled = (points - (low + high) / 2) / extent * (SIDE - 2 * _MARGIN)
    placed: IntArray = np.rint(SIDE / 2 + scaled * [1, -1]).astype(np.int64)
    return placed


def map_points(map_: EmbeddingMap) -> list[Point]:
    """The points of a map's first layout."""
    if not map_.layouts:
        return []
    places = coordinates(next(iter(map_.layouts.values())))
    return [
        Point(int(x), int(y), int(label), side, *legend(int(label)))
        for (x, y), label, side in zip(places, map_.labels, map_.sides, strict=True)
    ]


def map_data(maps: Sequence[EmbeddingMap]) -> JSON:
    """What the page's script knows of the maps; a thumbnail that two points share is in it once."""
    numbers: dict[str, int] = {}
    found = [
        {
            "layouts": [coordinates(points).tolist() for points in one.layouts.values()],
            "labels": one.labels.tolist(),
            "sides": list(one.sides),
            "names": list(one.names),
            "pictures": [
                numbers.setdefault(address(picture), len(numbers)) for picture in one.thumbnails
            ],
        }
        for one in maps
    ]
    return {"pictures": list(numbers), "maps": found}


def address(picture: Picture) -> str:
    """A picture as a ``data:`` URI."""
    content = base64.b64encode(picture.content).decode("ascii")
    return f"data:{picture.media_type};base64,{content}"


def _means(table: ResultsTable, budget: Budget) -> list[float]:
    entries = (row.cells.get(budget) for row in table.rows)
    return [entry.mean for entry in entries if entry and not math.isnan(entry.mean)]


def _value(entry: TableCell | None, best: float) -> PageCell:
    if entry is None or math.isnan(entry.mean):
        return PageCell("-")
    runs = f"{entry.runs} run{'s' if entry.runs != 1 else ''}"
    parts = [f"95 % interval of the test set {entry.test_text}"] if entry.test_text else []
    if not math.isnan(entry.low):
        parts.append(f"of the mean over seeds {100 * entry.low:.1f} to {100 * entry.high:.1f}")
    hint = ", ".join([*parts, runs])
    return PageCell(entry.text, entry.mean, entry.mean == best, hint)


def _number(value: float | None, best: float, *, digits: int) -> PageCell:
    if value is None:
        return PageCell("")
    return PageCell(f"{value:.{digits}f}", value, value == best)


def _paper(table: ResultsTable, row: TableRow) -> list[PageCell]:
    found = []
    for _, percent in table.paper_budgets:
        known = [one.paper[percent] for one in table.rows if percent in one.paper]
        found.append(_number(row.paper.get(percent), max(known), digits=2))
    return found
