"""Colours and marks of the report, by name: the page and the figures use the same ones."""

from collections.abc import Mapping
from typing import NamedTuple


class Tone(NamedTuple):
    """One colour, ``#rrggbb``, on light and on dark ground."""

    light: str
    dark: str


SERIES = 8
"""Colours, and marks, before they repeat."""

COLOURS: Mapping[str, Tone] = {
    "page": Tone("#f5f6f3", "#11171b"),
    "card": Tone("#ffffff", "#192126"),
    "well": Tone("#edf0ec", "#232d33"),
    "ink": Tone("#1c262b", "#e6ecee"),
    "muted": Tone("#54616a", "#a6b3b9"),
    "rule": Tone("#d6dcd8", "#34414a"),
    "accent": Tone("#0a5f6c", "#79cbd5"),
    "warn": Tone("#7a4300", "#f2c079"),
    "good": Tone("#17683f", "#7fd3a3"),
    "bad": Tone("#a8273a", "#ff9ba0"),
    "series-1": Tone("#0072b2", "#5cb8f0"),
    "series-2": Tone("#c24e00", "#ff9a57"),
    "series-3": Tone("#00835f", "#35c795"),
    "series-4": Tone("#a8447f", "#ee9cca"),
    "series-5": Tone("#7a6200", "#dcc04a"),
    "series-6": Tone("#5b49b8", "#b3a4ff"),
    "series-7": Tone("#4f5b62", "#c3ccd1"),
    "series-8": Tone("#b3203f", "#ff8797"),
}
"""Text has a contrast of 4.5 or more on `page`, `card` and `well`, a series of 3 on `card` (WCAG
2.1, AA). The series are near those of Okabe and Ito (2008), which colour-blind people tell apart;
no two light ones are equal, so that a drawn figure can be recoloured."""

HEAT = 0.5
"""Greatest share of a colour that is laid over `card` where text stands on it."""

MARKS = ("o", "s", "^", "D", "v", "P", "X", "h")
"""Marks of the series, as matplotlib calls them."""


def series(index: int) -> tuple[str, str]:
    """Name of a colour and a mark for the index-th series or class; 64 pairs, then again."""
    turn, place = divmod(index, SERIES)
    return f"series-{place + 1}", MARKS[(place + turn) % SERIES]
