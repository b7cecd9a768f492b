"""Brushes that all phantoms share: coordinates, windows of them, soft borders, whole masks.

Coordinates are relative: x to the right and y down, both from -1 to 1 over the square picture,
so that a phantom looks the same at every size. Brightness is from 0 (black) to 1 (white).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medfocus_pipeline.datasets.phantoms.textures import noise
from medfocus_pipeline.types import FloatArray, Mask

Window = tuple[slice, slice]
"""Rows and columns of a picture."""

EVERYWHERE: Window = (slice(None), slice(None))


@dataclass(frozen=True, slots=True)
class Frame:
    """Coordinates of every pixel in the phantom's own pose.

    Attributes:
        x: ``(s, s) float32``, to the right.
        y: ``(s, s) float32``, down.
    """

    x: FloatArray
    y: FloatArray

    @property
    def size(self) -> int:
        """Side of the picture, s, in pixels."""
        return len(self.x)

    def within(self, window: Window) -> "Frame":
        """The coordinates of a window's pixels."""
        return Frame(self.x[window], self.y[window])


@lru_cache(maxsize=8)
def _line(size: int) -> FloatArray:
    line = ((np.arange(size) + 0.5) * 2 / size - 1).astype(np.float32)
    line.setflags(write=False)
    return line


def flat(size: int) -> Frame:
    """The picture's own coordinates, without a pose."""
    line = _line(size)
    shape = (size, size)
    return Frame(np.broadcast_to(line, shape), np.broadcast_to(line[:, None], shape))


def posed(
    rng: np.random.Generator,
    size: int,
    *,
    turn: float = 0.1,
    zoom: float = 0.1,
    stretch: float = 0.08,
    shift: float = 0.06,
    bend: float = 0.03,
) -> Frame:
    """Coordinates under a random pose: what is drawn in them is turned, moved and bent.

    Args:
        rng: of the phantom.
        size: side of the picture, in pixels.
        turn: spread of the rotation, in radians.
        zoom: spread of the scale's logarithm.
        stretch: spread of the logarithm of width over height.
        shift: spread of the translation.
        bend: spread of a smooth displacement.
    """
    spreads = np.array((turn, zoom, stretch, shift, shift))
    angle, scale, aspect, dx, dy = (rng.standard_normal(5) * spreads).tolist()
    cos, sin = math.cos(angle), math.sin(angle)
    sx, sy = math.exp(scale + aspect / 2), math.exp(scale - aspect / 2)
    line = _line(size)
    x = (cos * sx) * (line - dx) - (sin * sx) * (line - dy)[:, None]
    y = (sin * sy) * (line - dx) + (cos * sy) * (line - dy)[:, None]
    if bend > 0:
        x += noise(rng, size, grain=0.7, spread=bend)
        y += noise(rng, size, grain=0.7, spread=bend)
    return Frame(x, y)


def windows(frame: Frame, squares: Sequence[tuple[float, float, float]]) -> list[Window]:
    """The pixels whose coordinates lie in each square, and some around them.

    Args:
        frame: the coordinates, in a pose that bends slowly.
        squares: x and y of the centre, and half the side.
    """
    if not squares:
        return []
    step = max(1, frame.size // 48)
    x, y, reach = np.array(squares, np.float32).T[..., None, None]
    near = np.abs(np.ascontiguousarray(frame.x[::step, ::step]) - x) < reach
    near &= np.abs(np.ascontiguousarray(frame.y[::step, ::step]) - y) < reach
    sides = [near.any(axis=2), near.any(axis=1)]
    firsts = [(side.argmax(axis=1) - 1) * step for side in sides]
    lasts = [((side * np.arange(side.shape[1])).max(axis=1) + 2) * step for side in sides]
    return [
        (slice(max(0, top), bottom), slice(max(0, left), right))
        for top, left, bottom, right in zip(
            *(ends.tolist() for ends in (*firsts, *lasts)), strict=True
        )
    ]


def edge(field: NDArray[np.floating[Any]], width: float) -> FloatArray:
    """0 to 1 across the zero of a field: how much of the shape is there, ``(s, s) float32``.

    Args:
        field: positive inside.
        width: how far the transition reaches to either side, in units of the field.
    """
    t: FloatArray = np.multiply(field, 0.5 / width, dtype=np.float32)
    t += 0.5
    np.maximum(t, 0, out=t)
    np.minimum(t, 1, out=t)
    rest = t * -2
    rest += 3
    t *= t
    t *= rest
    return t


def mix(picture: FloatArray, window: Window, amount: FloatArray, value: FloatArray | float) -> None:
    """Lay a brightness over a window of a picture, in place.

    Args:
        picture: ``(..., s, s) float32``.
        window: where.
        amount: how much of the value shows, 0 to 1.
        value: the brightness.
    """
    there = picture[..., window[0], window[1]]
    change = value - there
    change *= amount
    there += change


def whole(mask: Mask) -> Mask:
    """The largest connected piece of a mask, its holes filled; empty if the mask is."""
    box = bounds(mask)
    labels, count = ndimage.label(mask[box])
    piece = mask[box]
    if count > 1:
        piece = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    filled = np.zeros_like(mask)
    filled[box] = ndimage.binary_fill_holes(piece)
    return filled


def pieces(mask: Mask, least: float) -> list[Mask]:
    """The connected pieces of a mask that have at least as many pixels."""
    box = bounds(mask)
    labels, _ = ndimage.label(mask[box])
    found = []
    for number in np.flatnonzero(np.bincount(labels.ravel())[1:] >= least) + 1:
        piece = np.zeros_like(mask)
        piece[box] = labels == number
        found.append(piece)
    return found


def bounds(mask: Mask) -> Window:
    """The rows and columns that a mask touches; the first ones if it is empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if len(rows) == 0:
        return slice(0, 1), slice(0, 1)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
