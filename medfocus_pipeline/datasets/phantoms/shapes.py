"""Shapes as fields: positive inside, 0 on the outline, negative outside."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medfocus_pipeline.datasets.phantoms.canvas import Frame
from medfocus_pipeline.types import FloatArray

_STEPS = 512
"""Angles of an outline, a power of two."""


def ellipse(
    frame: Frame, centre: tuple[float, float], radii: tuple[float, float], *, angle: float = 0.0
) -> FloatArray:
    """1 at the centre of an ellipse, 0 on its outline, negative outside, ``(s, s) float32``.

    Args:
        frame: the coordinates.
        centre: (x, y).
        radii: (along x, along y) before the turn.
        angle: turn, in radians.
    """
    u, v = turned(frame, centre, radii, angle=angle)
    field = _length(u, v)
    return np.subtract(1, field, out=field)


def blob(
    rng: np.random.Generator,
    frame: Frame,
    centre: tuple[float, float],
    radii: tuple[float, float],
    *,
    angle: float = 0.0,
    wobble: float = 0.1,
    lobes: int = 6,
    spikes: float = 0.0,
) -> FloatArray:
    """Like `ellipse`, with a random outline: one star-shaped region, ``(s, s) float32``.

    Args:
        rng: of the phantom.
        frame, centre, radii, angle: as of an `ellipse`.
        wobble: spread of the radius as a share of it, in its slow changes.
        lobes: how many slow changes there are around the outline.
        spikes: spread of its fast changes.
    """
    outline = star(rng, wobble=wobble, lobes=lobes, spikes=spikes)
    u, v = turned(frame, centre, radii, angle=angle)
    turns = np.arctan2(v, u)
    turns *= np.float32(_STEPS / (2 * np.pi))
    steps = turns.astype(np.intp)
    steps &= _STEPS - 1  # the remainder, as it is a power of two
    field = _length(u, v)
    field /= outline.take(steps)
    return np.subtract(1, field, out=field)


def star(
    rng: np.random.Generator, *, wobble: float, lobes: int = 6, spikes: float = 0.0
) -> FloatArray:
    """A random radius over the angle, around 1, ``(512,) float32``; see `blob`."""
    order = np.arange(2, 2 + lobes)
    size, phase = rng.normal(0, 1, lobes) / np.sqrt(order), rng.uniform(0, 2 * np.pi, lobes)
    slow = ((size * np.exp(1j * phase)) @ _waves(lobes)).real
    # The wrapped Gaussian blur of white noise, by its spectrum.
    fast = np.fft.irfft(np.fft.rfft(rng.standard_normal(_STEPS)) * _softness()) * 4
    radius: FloatArray = np.exp(np.clip(wobble * slow + spikes * fast, -0.8, 0.8), dtype=np.float32)
    return radius


@lru_cache(maxsize=8)
def _waves(lobes: int) -> NDArray[np.complex128]:
    turn = np.linspace(0, 2 * np.pi, _STEPS, endpoint=False)
    return np.asarray(np.exp(1j * np.arange(2, 2 + lobes)[:, None] * turn), np.complex128)


@lru_cache(maxsize=1)
def _softness() -> NDArray[np.complex128]:
    pulse = np.zeros(_STEPS)
    pulse[0] = 1
    return np.fft.rfft(ndimage.gaussian_filter1d(pulse, 5, mode="wrap"))


def turned(
    frame: Frame, centre: tuple[float, float], radii: tuple[float, float], *, angle: float
) -> tuple[FloatArray, FloatArray]:
    """Coordinates along the axes of an ellipse, in units of its radii, ``(s, s) float32`` each."""
    dx, dy = frame.x - np.float32(centre[0]), frame.y - np.float32(centre[1])
    wide, high = 1 / float(radii[0]), 1 / float(radii[1])
    if angle == 0:
        dx *= wide
        dy *= high
        return dx, dy
    cos, sin = math.cos(angle), math.sin(angle)
    u, v = dx * (cos * wide), dy * (cos * high)
    dx *= sin * high
    dy *= sin * wide
    u += dy
    v -= dx
    return u, v


def _length(u: FloatArray, v: FloatArray) -> FloatArray:
    """Of vectors; what holds their coordinates is used up."""
    u *= u
    v *= v
    u += v
    return np.sqrt(u, out=u)
