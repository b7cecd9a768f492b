"""Breast ultrasound without a mass: layers of tissue, and what the probe makes of them."""

import numpy as np

from medfocus_pipeline.datasets.phantoms.canvas import Frame, edge, flat, windows
from medfocus_pipeline.datasets.phantoms.shapes import ellipse
from medfocus_pipeline.datasets.phantoms.textures import noise, speckle
from medfocus_pipeline.types import FloatArray, Mask


def draw(rng: np.random.Generator, frame: Frame) -> FloatArray:
    """Brightness of skin, fat, gland and muscle, without speckle."""
    size = frame.size
    level = 0.42 + rng.normal(0, 0.06)
    echo = noise(rng, size, grain=0.35, octaves=2, spread=0.09)
    echo += level
    depth = noise(rng, size, grain=1.0, spread=0.08)
    depth += frame.y
    fat_end = rng.uniform(-0.85, -0.45)
    muscle = rng.uniform(0.35, 1.1)
    septa = _ridge(noise(rng, size, grain=0.3, spread=5), rng.uniform(0.05, 0.2))
    septa -= rng.uniform(0.05, 0.2)
    septa *= edge(fat_end - depth, 0.06)
    echo += septa
    echo += _muscle(rng, depth - muscle, depth)
    if rng.random() < 0.7:
        depth -= muscle
        depth /= 0.03
        echo += _ridge(depth, 0.25)
    for _ in range(rng.integers(0, 4)):
        _lobule(rng, frame, echo)
    skin = frame.y + rng.uniform(0.9, 1.1)
    skin /= 0.05
    echo += _ridge(skin, rng.uniform(0.1, 0.4))
    return echo


def _muscle(rng: np.random.Generator, inside: FloatArray, depth: FloatArray) -> FloatArray:
    """What the muscle adds, striped along the depth; `inside` is how far below its surface."""
    stripes = depth * rng.uniform(30, 60)
    stripes += noise(rng, len(depth), grain=0.5)
    np.sin(stripes, out=stripes)
    stripes *= 0.06
    stripes -= rng.uniform(0.0, 0.2)
    stripes *= edge(inside, 0.06)
    return stripes


def _ridge(field: FloatArray, height: float) -> FloatArray:
    """A soft line where a field is zero; the field is used up."""
    field *= field
    np.negative(field, out=field)
    np.exp(field, out=field)
    field *= height
    return field


def _lobule(rng: np.random.Generator, frame: Frame, echo: FloatArray) -> None:
    """A lobule of fat or gland, or a duct: what may be taken for a mass and is none."""
    centre = (rng.uniform(-0.9, 0.9), rng.uniform(-0.8, 0.8))
    width = rng.uniform(0.15, 0.5)
    radii = (width, width * rng.uniform(0.15, 0.5))
    angle, border = rng.normal(0, 0.3), rng.uniform(0.3, 0.6)
    there = windows(frame, [(*centre, width * (1 + border))])[0]
    amount = edge(ellipse(frame.within(there), centre, radii, angle=angle), border)
    amount *= rng.normal(0, 0.07)
    echo[there] += amount


def scan(rng: np.random.Generator, echo: FloatArray) -> tuple[FloatArray, Mask]:
    """The tissue as the probe shows it, and where it shows anything at all."""
    size = len(echo)
    plain = flat(size)
    bands = np.interp(
        np.linspace(0, 1, size), np.linspace(0, 1, 6), np.cumsum(rng.normal(0, 0.035, 6))
    )
    bands = bands[:, None] - rng.uniform(0, 0.12) * (plain.y[:, :1] + 0.3)
    echo = echo + bands.astype(np.float32)
    for _ in range(rng.poisson(0.8)):  # poor contact, ribs: shadows that no mass casts
        across = plain.x - np.float32(rng.uniform(-1.1, 1.1))
        across -= 0.1 * rng.normal() * plain.y
        across /= 0.12
        start = edge(plain.y[:, :1] - rng.uniform(-1.2, 0.6), 0.2)
        echo -= start * _ridge(across, rng.uniform(0.03, 0.2))
    wide, high = rng.uniform(0.014, 0.03), rng.uniform(0.009, 0.016)
    strength = rng.uniform(0.05, 0.14)
    dots = speckle(rng, size, across=wide, along=high)
    dots *= strength
    echo += dots
    seen = _seen(rng, plain)
    np.clip(echo, 0.02, 1, out=echo)
    echo[~seen] = 0.01
    return echo, seen


def _seen(rng: np.random.Generator, plain: Frame) -> Mask:
    """Where the probe shows anything."""
    seen = np.ones((plain.size, plain.size), np.bool_)
    if rng.random() < 0.15:  # a curved probe sees a sector
        apex = rng.uniform(1.6, 3.0)
        distance = np.hypot(plain.x, plain.y + apex)
        seen &= (distance > apex - 0.98) & (distance < apex + 0.98)
        seen &= np.abs(plain.x) < (plain.y + apex) * rng.uniform(0.33, 0.6)
    if rng.random() < 0.2:
        left, right = rng.uniform(0.85, 1.0, 2)
        seen &= (plain.x > -left) & (plain.x < right)
    return seen
