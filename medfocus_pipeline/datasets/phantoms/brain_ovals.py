"""Ovals of the tables in `brain_planes`: varied, drawn, and how deep inside them one is."""

import math
from collections.abc import Sequence

import numpy as np

from medfocus_pipeline.datasets.phantoms.brain_planes import Anatomy, Oval
from medfocus_pipeline.datasets.phantoms.canvas import Frame, Window, edge, mix, windows
from medfocus_pipeline.datasets.phantoms.shapes import ellipse
from medfocus_pipeline.types import FloatArray


def depth(frame: Frame, ovals: Sequence[Oval]) -> FloatArray:
    """About how far inside the union of ovals a pixel is, in coordinates; negative outside."""
    deepest = np.full(frame.x.shape, -np.inf, np.float32)
    for x, y, rx, ry, turn in ovals:
        field = ellipse(frame, (x, y), (rx, ry), angle=turn)
        field *= math.sqrt(rx * ry)
        np.maximum(deepest, field, out=deepest)
    return deepest


def stamp(
    picture: FloatArray,
    frame: Frame,
    ovals: Sequence[Oval],
    values: Sequence[float],
    *,
    blur: float = 0.015,
) -> list[tuple[Window, FloatArray]]:
    """Draw ovals into a picture, one over the other; returns where, and how much of each is there.

    Args:
        picture: ``(s, s) float32``, changed in place.
        frame: its coordinates.
        ovals: the shapes.
        values: their brightness.
        blur: how far their borders reach, in coordinates.
    """
    squares = [(x, y, max(rx, ry) + 2 * blur) for x, y, rx, ry, _ in ovals]
    drawn = []
    for there, oval, value in zip(windows(frame, squares), ovals, values, strict=True):
        x, y, rx, ry, turn = oval
        field = ellipse(frame.within(there), (x, y), (rx, ry), angle=turn)
        amount = edge(field, blur / min(rx, ry))
        mix(picture, there, amount, value)
        drawn.append((there, amount))
    return drawn


def varied(
    rng: np.random.Generator, ovals: Sequence[Oval], *, scale: float = 1.0, spread: float = 0.12
) -> list[Oval]:
    """The ovals, each a little moved, resized and turned; `scale` is for their widths."""
    spreads = np.array((0.1, 0.1, 1, 1, 0.6)) * spread
    changes = (rng.standard_normal((len(ovals), len(spreads))) * spreads).tolist()
    return [
        (x + dx, y + dy, rx * scale * math.exp(wider), ry * math.exp(taller), turn + more)
        for (x, y, rx, ry, turn), (dx, dy, wider, taller, more) in zip(ovals, changes, strict=True)
    ]


def organs(
    rng: np.random.Generator, anatomy: Anatomy, table: Sequence[tuple[str, Sequence[Oval]]]
) -> tuple[list[Oval], list[float]]:
    """A table's ovals, a little varied, and their brightness."""
    ovals, values = [], []
    for tissue, usual in table:
        ovals += varied(rng, usual)
        values += [anatomy.tissues[tissue]] * len(usual)
    return ovals, values
