"""The build of a chest: curves that lungs, heart, chest wall and diaphragm share.

Coordinates are those of `canvas`, with the spine at x = 0. The patient's right side is at the left
of the picture.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medfocus_pipeline.datasets.phantoms.canvas import Frame
from medfocus_pipeline.types import FloatArray

RIGHT, LEFT = 0, 1
"""The patient's sides."""

_STEPS = 512
_REACH = 1.8
_GRID = np.linspace(-_REACH, _REACH, _STEPS)


@dataclass(frozen=True, slots=True)
class Build:
    """Curves of both sides over the height or, of the dome, over the distance to the spine.

    Attributes:
        child: 0 (adult) to 1 (small child).
        apex: y of the lungs' upper ends.
        inner: ``(2, steps) float32``, |x| of the border of mediastinum and heart.
        outer: ``(2, steps) float32``, |x| of the inside of the chest wall.
        dome: ``(2, steps) float32``, y of the diaphragm.
    """

    child: float
    apex: float
    inner: FloatArray
    outer: FloatArray
    dome: FloatArray

    def place(self, side: int, depth: float, height: float) -> tuple[float, float]:
        """Coordinates of a point in a lung.

        Args:
            side: `RIGHT` or `LEFT`.
            depth: 0 at the mediastinum to 1 at the chest wall.
            height: 0 at the apex to 1 at the top of the diaphragm.
        """
        y = self.apex + height * (float(self.dome[side].min()) - self.apex)
        row = int((y + _REACH) * (_STEPS - 1) / (2 * _REACH))
        inner, outer = float(self.inner[side, row]), float(self.outer[side, row])
        return (1 if side == LEFT else -1) * (inner + depth * (outer - inner)), y


@dataclass(frozen=True, slots=True)
class Outline:
    """The curves around every pixel; fields are positive inside, ``(s, s) float32``.

    Attributes:
        frame: the coordinates.
        width: distance to the spine, |x|.
        inner: |x| of the border of the mediastinum at this height and side.
        wall: how far inside the chest wall it is.
        floor: how far above the diaphragm it is.
    """

    frame: Frame
    width: FloatArray
    inner: FloatArray
    wall: FloatArray
    floor: FloatArray


def outline(build: Build, frame: Frame) -> Outline:
    """A build's curves at every pixel of a frame."""
    width = np.abs(frame.x)
    side = (frame.x > 0) * np.intp(_STEPS)
    row, column = side + _index(frame.y), side + _index(width)
    return Outline(
        frame,
        width,
        build.inner.ravel().take(row),
        build.outer.ravel().take(row) - width,
        build.dome.ravel().take(column) - frame.y,
    )


def _index(value: FloatArray) -> NDArray[np.intp]:
    scaled = (value + np.float32(_REACH)) * np.float32((_STEPS - 1) / (2 * _REACH))
    return np.clip(scaled, 0, _STEPS - 1, out=scaled).astype(np.intp)


def build(rng: np.random.Generator) -> Build:
    """A child or an adult who breathes in more or less deeply."""
    child = float(rng.beta(0.7, 1.0))
    apex = -0.83 + 0.1 * child + rng.normal(0, 0.04)
    base = 0.6 - 0.1 * child + rng.normal(0, 0.08)
    wide = 0.82 + 0.05 * child + rng.normal(0, 0.03)
    heart = 0.39 + 0.09 * child + rng.normal(0, 0.05)
    upper = 0.13 + 0.06 * child + abs(rng.normal(0, 0.02))
    inner, outer, dome = [], [], []
    for side in (RIGHT, LEFT):
        tall = base + 0.05 * side + rng.normal(0, 0.025) - apex
        inner.append(_inner(rng, side, apex, tall, heart, upper))
        outer.append(_outer(rng, apex, tall, wide - 0.03 * side))
        dome.append(_dome(rng, apex + tall, wide))
    # The central tendon joins the domes under the heart.
    apart = np.clip(np.abs(_GRID) / 0.25, 0, 1).astype(np.float32)
    mean = np.mean(dome, axis=0, dtype=np.float32)
    domes = mean + apart * (np.stack(dome) - mean)
    return Build(child, apex, np.stack(inner), np.stack(outer), domes)


def _curve(at: NDArray[np.float64], value: NDArray[np.float64], smooth: float) -> FloatArray:
    """A smooth curve through points, ``(steps,) float32``."""
    sigma = smooth * _STEPS / (2 * _REACH)
    table = ndimage.gaussian_filter1d(np.interp(_GRID, at, value), sigma, mode="nearest")
    return table.astype(np.float32)


def _inner(
    rng: np.random.Generator, side: int, apex: float, tall: float, heart: float, upper: float
) -> FloatArray:
    """|x| of the border of mediastinum and heart over y; on the left with knob and notch."""
    at = np.array([-0.3, 0.0, 0.04, 0.2, 0.3, 0.42, 0.5, 0.62, 0.75, 0.88, 1.0, 1.2])
    if side == RIGHT:
        share = np.array([0, 0, 0, 0, 0, 0, 0.6, 0.9, 1, 0.95, 0.8, 0.8])
        full = np.maximum(upper, share * heart * rng.uniform(0.35, 0.55))
    else:
        share = np.array([0, 0, 0, 0, 0, 0, 0.3, 0.66, 0.9, 1, 0.96, 0.9])
        full = np.maximum(upper + rng.uniform(0.01, 0.05), share * heart)
        full[[3, 4]] += rng.uniform(-0.02, 0.05)
    full = full + rng.normal(0, 0.008, len(full))
    full[:3] = 0.27, 0.27, max(upper, 0.18)
    return _curve(apex + at * tall, full, 0.03)


def _outer(rng: np.random.Generator, apex: float, tall: float, wide: float) -> FloatArray:
    """|x| of the inside of the chest wall over y."""
    at = np.array([-0.3, -0.02, 0.02, 0.07, 0.14, 0.25, 0.4, 0.6, 0.8, 1.0, 1.3])
    share = np.array([0.0, 0.15, 0.45, 0.57, 0.68, 0.8, 0.9, 0.97, 1.0, 1.0, 0.97])
    slope = rng.normal(0, 0.05) * (at - 0.5)
    return _curve(apex + at * tall, wide * (share + slope + rng.normal(0, 0.008, 11)), 0.02)


def _dome(rng: np.random.Generator, base: float, wide: float) -> FloatArray:
    """Y of the diaphragm over |x|: a dome that falls to the costophrenic angle."""
    top, drop = rng.uniform(0.25, 0.4), rng.uniform(0.25, 0.7)
    away = (np.abs(_GRID) - top) / wide
    y = base - 0.1 + drop * np.where(away > 0, 1.6, 0.5) * away**2
    return y.astype(np.float32)
