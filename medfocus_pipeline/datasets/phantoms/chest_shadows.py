"""Shadows of a chest X-ray: soft tissue, bones, vessels, and what the ward attached.

Brightness adds up as attenuation does: what lies behind something is still seen through it.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageDraw

from medfocus_pipeline.datasets.phantoms.canvas import Frame, edge
from medfocus_pipeline.datasets.phantoms.chest_build import Build, Outline
from medfocus_pipeline.datasets.phantoms.exposure import font
from medfocus_pipeline.datasets.phantoms.shapes import ellipse
from medfocus_pipeline.datasets.phantoms.textures import softened
from medfocus_pipeline.types import FloatArray


def pixels(frame: Frame, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where coordinates lie in the picture, in pixels.

    Args:
        frame: the coordinates, in a pose that does not bend.
        points: ``(n, 2) float64``, x and y.
    """
    corners = np.array([[f[0, 0], f[0, -1], f[-1, 0]] for f in (frame.x, frame.y)], np.float64)
    steps = (corners[:, 1:] - corners[:, :1]) / (frame.size - 1)
    where = np.linalg.solve(steps, points.T - corners[:, :1])
    return where.T.astype(np.float64, copy=False)


def body(rng: np.random.Generator, build: Build, at: Outline) -> FloatArray:
    """Trunk, shoulders, arms, belly and breasts; air in trachea and stomach, ``(s, s) float32``."""
    x, y = at.frame.x, at.frame.y
    fat, rise, narrowing = rng.uniform((0.08, 0.6, 0.7), (0.24, 1.1, 1.3)).tolist()
    shoulder, slope = build.apex - rng.uniform(0.1, 0.28), rng.uniform(0.1, 0.45)
    below = y - shoulder - slope * (at.width - 0.3)
    below += rng.uniform(2, 5) * np.square(np.clip(0.5 - at.width, 0, None))
    trunk = np.minimum(at.wall + fat + np.clip(rise - narrowing * below, 0, None), below)
    trunk = np.maximum(trunk, rng.uniform(0.22, 0.32) - at.width)
    arm, place, lean = rng.uniform((0.14, 1.0, -0.1), (0.24, 1.5, 0.2)).tolist()
    trunk = np.maximum(trunk, np.minimum(arm - np.abs(at.width - place - lean * y), below))
    picture: FloatArray = np.sqrt(np.clip(trunk * 5, 0, 1)) * rng.uniform(0.44, 0.6)
    belly = edge(-at.floor, 0.03) * edge(trunk, 0.02)
    picture += rng.uniform(0.08, 0.2) * belly
    trachea = edge(rng.uniform(0.04, 0.06) - np.abs(x - rng.normal(0, 0.015)), 0.015)
    picture -= rng.uniform(0.06, 0.14) * trachea * edge(build.apex + 0.5 - y, 0.05)
    where, radii = rng.uniform((0.25, 0.62), (0.45, 0.8)), rng.uniform((0.08, 0.05), (0.2, 0.12))
    if rng.random() < 0.5:
        gas = ellipse(at.frame, (where[0], where[1]), (radii[0], radii[1]))
        picture -= rng.uniform(0.1, 0.3) * edge(gas, 0.2) * belly
    breast, low, size = rng.uniform((0.02, 0.2, 0.25), (0.12, 0.5, 0.42)).tolist()
    if rng.random() < 0.35 * (1 - build.child):
        away = np.square((at.width - 0.45) / size) + np.square((y - low) / size)
        picture += breast * edge(1 - away, 0.15)
    return picture


def bones(rng: np.random.Generator, build: Build, at: Outline) -> FloatArray:
    """Ribs, clavicles, shoulder blades and spine, ``(s, s) float32``."""
    x, y, width = at.frame.x, at.frame.y, at.width
    cage = edge(at.wall + 0.03, 0.04) * edge(y - (build.apex - 0.04), 0.06)
    cage *= 0.4 + 0.6 * edge(at.floor + 0.1, 0.2)
    gap, steep = rng.normal(0.16, 0.012), rng.uniform(0.1, 0.45) * (1 - 0.5 * build.child)
    back = y - steep * (width - 0.25) - 1.2 * np.square(width * width)
    front = y + rng.uniform(0.6, 0.9) * width
    strength, share, wider = rng.uniform((0.04, 0.3, 1.1), (0.11, 0.8, 1.3)).tolist()
    ribs = _bars(back, gap, rng.random())
    ribs += share * _bars(front, gap * wider, rng.random()) * edge(width - 0.35, 0.15)
    picture: FloatArray = strength * ribs * cage
    lie, tilt = build.apex + rng.normal(0.08, 0.05), rng.normal(-0.18, 0.12)
    bar = np.abs(y - lie - tilt * width - 0.08 * np.square(2 * width - 1))
    clavicle = edge(rng.uniform(0.025, 0.04) - bar, 0.02) * edge(0.32 - np.abs(width - 0.42), 0.03)
    picture += rng.uniform(0.06, 0.16) * clavicle
    blade = np.minimum(width - 0.62 + 0.3 * (y - build.apex), build.apex + 0.75 - y)
    picture += rng.uniform(0, 0.08) * edge(blade, 0.02) * edge(1.05 - width, 0.1) * cage
    spine = edge(rng.uniform(0.07, 0.1) - np.abs(x), 0.02)
    disc = 1 - 0.4 * _bars(y, gap * 0.9, rng.random())
    picture += rng.uniform(0.03, 0.12) * spine * disc
    return picture


def _bars(place: FloatArray, gap: float, phase: float) -> FloatArray:
    """Bars across a coordinate, 0 to 1, brighter at their rims as hollow bones are."""
    turns = place * np.float32(64 / gap)
    turns += np.float32(64 * (phase + 64))
    steps = turns.astype(np.intp)
    steps &= 63
    return _bar().take(steps)


@lru_cache(maxsize=1)
def _bar() -> FloatArray:
    across = np.abs(np.linspace(-1, 1, 64, endpoint=False))
    bar = 1 / (1 + np.exp((across - 0.45) / 0.04))
    bar *= 0.65 + 0.35 * np.exp(-np.square((across - 0.36) / 0.08))
    return bar.astype(np.float32)


def vessels(rng: np.random.Generator, frame: Frame, hilum: float) -> FloatArray:
    """Lines that branch from either hilum, ``(s, s) float32`` from 0 to 1.

    Args:
        rng: of the body.
        frame: the coordinates, in a pose that does not bend.
        hilum: y of the hila.
    """
    size = frame.size
    layer = PillowImage.new("L", (size, size))
    pen = ImageDraw.Draw(layer)
    sides = [_branches(rng, side, hilum) for side in (-1, 1)]
    ends, bold = (np.concatenate(parts) for parts in zip(*sides, strict=True))
    lines = pixels(frame, ends.reshape(-1, 2)).reshape(-1, 4).tolist()
    # A side's thick ones are first: where lines cross, the last one is seen.
    for line, thick in zip(lines, bold.tolist(), strict=True):
        pen.line(line, fill=round(80 + 35 * thick), width=max(1, round(thick * size / 224)))
    return softened(np.asarray(layer, dtype=np.float32) * np.float32(1 / 255), 0.9)


def _branches(
    rng: np.random.Generator, side: int, hilum: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``(n, 4)`` ends of one side's vessels, x y x y, and ``(n,)`` widths in 1/224, falling."""
    count = int(rng.integers(8, 12))
    ends, widths = [], []
    root = np.stack([np.full(count, side * 0.16), rng.normal(hilum, 0.05, count)], axis=1)
    heading = np.linspace(-1.35, 1.35, count) + rng.normal(0, 0.15, count)
    length, bold = rng.uniform(0.16, 0.28, count), rng.uniform(2, 5, count)
    for _ in range(4):
        way = np.stack([side * np.cos(heading), np.sin(heading)], axis=1)
        tip = root + way * length[:, None]
        ends.append(np.concatenate([root, tip], axis=1))
        widths.append(bold)
        forks = np.flatnonzero(rng.random(2 * len(tip)) < 0.8)
        parent, turn = forks // 2, np.where(forks % 2, 1, -1) * rng.normal(0.3, 0.15, len(forks))
        root, heading, bold = tip[parent], heading[parent] + turn, bold[parent] * 0.6
        length = length[parent] * rng.uniform(0.6, 0.95, len(forks))
    return np.concatenate(ends), np.concatenate(widths)


def devices(rng: np.random.Generator, picture: FloatArray) -> FloatArray:
    """Leads, tubes and a side marker over a picture, ``(s, s)``, as often in every class."""
    size = len(picture)
    layer = PillowImage.new("L", (size, size))
    pen = ImageDraw.Draw(layer)
    for _ in range(rng.integers(2, 5) if rng.random() < 0.25 else 0):
        _wire(rng, pen, size, rng.uniform(0.15, 0.85, 2), end=rng.uniform(0, 1, 2), disc=True)
    if rng.random() < 0.2:
        start = np.array([rng.normal(0.5, 0.03), 0.0])
        end = np.array([start[0] + rng.normal(0, 0.02), rng.uniform(0.25, 0.9)])
        _wire(rng, pen, size, start, end=end, disc=False)
    if rng.random() < 0.5:
        corner = (rng.choice([0.06, 0.85]) * size, rng.uniform(0.04, 0.3) * size)
        letter = "R" if corner[0] < size / 2 else "L"
        pen.text(corner, letter, fill=220, font=font(max(8, size // 12)))
    if layer.getbbox() is None:
        return picture
    strength = np.float32(rng.uniform(0.1, 0.4) / 255)
    return picture + strength * np.asarray(layer, dtype=np.float32)


def _wire(
    rng: np.random.Generator,
    pen: ImageDraw.ImageDraw,
    size: int,
    start: NDArray[np.float64],
    *,
    end: NDArray[np.float64],
    disc: bool,
) -> None:
    """A bent line between two points, ``(2,) float64`` as shares of the picture."""
    t = np.linspace(0, 1, 12)[:, None]
    bend = rng.normal(0, 0.08 if disc else 0.01, 2)
    points = (start + t * (end - start) + 4 * t * (1 - t) * bend) * size
    width = max(1, round(size * rng.uniform(0.004, 0.012)))
    pen.line([tuple(p) for p in points.tolist()], fill=170, width=width, joint="curve")
    if disc:
        x, y = points[0].tolist()
        r = size * rng.uniform(0.012, 0.022)
        pen.ellipse((x - r, y - r, x + r, y + r), outline=230, width=max(1, size // 90))
