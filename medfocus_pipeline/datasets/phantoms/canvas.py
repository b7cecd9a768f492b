"""Brushes that all phantoms share: coordinates, soft shapes, random textures, scanner artefacts.

Coordinates are relative: x to the right and y down, both from -1 to 1 over the square picture,
so that a phantom looks the same at every size. Brightness is from 0 (black) to 1 (white).
"""

import math
import string
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medfocus_pipeline.types import FloatArray, Image, Mask

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont


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
    angle, scale, aspect, dx, dy = rng.normal(0, (turn, zoom, stretch, shift, shift)).tolist()
    cos, sin = math.cos(angle), math.sin(angle)
    sx, sy = math.exp(scale + aspect / 2), math.exp(scale - aspect / 2)
    line = _line(size)
    x = (cos * sx) * (line - dx) - (sin * sx) * (line - dy)[:, None]
    y = (sin * sy) * (line - dx) + (cos * sy) * (line - dy)[:, None]
    if bend > 0:
        x += bend * noise(rng, size, grain=0.7)
        y += bend * noise(rng, size, grain=0.7)
    return Frame(x, y)


def noise(rng: np.random.Generator, size: int, *, grain: float, octaves: int = 1) -> FloatArray:
    """A smooth random field with about zero mean and unit spread, ``(s, s) float32``.

    Args:
        rng: of the phantom.
        size: side, in pixels.
        grain: size of its features in coordinates, a pixel to 2.
        octaves: fields of half the grain and half the weight that are added.
    """
    field = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        spline = _spline(size, min(size, max(2, round(2 * 2**octave / grain))))
        knots = rng.standard_normal((spline.shape[1], spline.shape[1]), dtype=np.float32)
        field += np.float32(0.5**octave) * (spline @ knots @ spline.T)
    power = sum(0.25**octave for octave in range(octaves))
    return field / np.float32(np.sqrt(power))


def speckle(rng: np.random.Generator, size: int, *, across: float, along: float) -> FloatArray:
    """Log-compressed speckle of zero mean, ``(s, s) float32``.

    Args:
        rng: of the phantom.
        size: side, in pixels.
        across: size of its grains along x, in coordinates.
        along: size of its grains along y.
    """
    rows, columns = (_spline(size, min(size, round(2 / grain))) for grain in (along, across))
    shape = (2, rows.shape[1], columns.shape[1])
    real, imaginary = rows @ rng.standard_normal(shape, dtype=np.float32) @ columns.T
    field = np.log(real * real + imaginary * imaginary + np.float32(0.02))
    field *= 0.5
    field -= field.mean()
    return np.asarray(field)


@lru_cache(maxsize=256)
def _spline(size: int, cells: int) -> FloatArray:
    """Cubic B-splines over equal cells, scaled so that white knots give unit spread.

    Returns:
        ``(size, cells + 3) float32``: knots -> values at the pixels' centres.
    """
    place = (np.arange(size) + 0.5) * cells / size
    cell, t = np.floor(place).astype(np.int64), place % 1
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    basis = np.zeros((size, cells + 3), np.float32)
    np.put_along_axis(basis, cell[:, None] + np.arange(4), weights.astype(np.float32), axis=1)
    basis.setflags(write=False)
    return basis


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
    u, v = _turned(frame, centre, angle)
    return np.asarray(1 - np.sqrt(np.square(u / radii[0]) + np.square(v / radii[1])), np.float32)


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
        frame: the coordinates.
        centre: (x, y).
        radii: (along x, along y) before the turn.
        angle: turn, in radians.
        wobble: spread of the radius as a share of it, in its slow changes.
        lobes: how many slow changes there are around the outline.
        spikes: spread of its fast changes.
    """
    u, v = _turned(frame, centre, angle)
    u /= np.float32(radii[0])
    v /= np.float32(radii[1])
    outline = _outline(rng, wobble=wobble, lobes=lobes, spikes=spikes)
    turns = np.arctan2(v, u) * np.float32(len(outline) / (2 * np.pi))
    radius = outline[turns.astype(np.int32) % len(outline)]
    return np.asarray(1 - np.sqrt(u * u + v * v) / radius, np.float32)


def _outline(
    rng: np.random.Generator, *, wobble: float, lobes: int, spikes: float, steps: int = 512
) -> FloatArray:
    """The radius over the angle, around 1."""
    turn = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    order = np.arange(2, 2 + lobes)
    size, phase = rng.normal(0, 1, lobes) / np.sqrt(order), rng.uniform(0, 2 * np.pi, lobes)
    slow = (size[:, None] * np.cos(order[:, None] * turn + phase[:, None])).sum(axis=0)
    fast = ndimage.gaussian_filter1d(rng.standard_normal(steps), 5, mode="wrap") * 4
    radius: FloatArray = np.exp(np.clip(wobble * slow + spikes * fast, -0.8, 0.8), dtype=np.float32)
    return radius


def _turned(
    frame: Frame, centre: tuple[float, float], angle: float
) -> tuple[FloatArray, FloatArray]:
    dx, dy = frame.x - np.float32(centre[0]), frame.y - np.float32(centre[1])
    if angle == 0:
        return dx, dy
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * dx + sin * dy, cos * dy - sin * dx


def edge(field: NDArray[np.floating[Any]], width: float) -> FloatArray:
    """0 to 1 across the zero of a field: how much of the shape is there, ``(s, s) float32``.

    Args:
        field: positive inside.
        width: how far the transition reaches to either side, in units of the field.
    """
    t: FloatArray = np.multiply(field, 0.5 / width, dtype=np.float32)
    t += np.float32(0.5)
    np.clip(t, 0, 1, out=t)
    rest = 3 - 2 * t
    t *= t
    t *= rest
    return np.asarray(t)


def blur(picture: FloatArray, sigma: float) -> FloatArray:
    """Gaussian blur; `sigma` in coordinates, so that it looks the same at every size."""
    pixels = sigma * len(picture) / 2
    blurred: FloatArray = ndimage.gaussian_filter(picture, pixels, truncate=2.0)
    return blurred


def whole(mask: Mask) -> Mask:
    """The largest connected piece of a mask, its holes filled; empty if the mask is."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    pieces = ndimage.find_objects(labels)
    largest = int(np.bincount(labels.ravel())[1:].argmax())
    box = pieces[largest]
    piece = np.pad(labels[box] == largest + 1, 1)
    outside, holes = ndimage.label(~piece)
    if holes > 1:  # the piece of the corner is what lies around
        piece = outside != outside[0, 0]
    filled = np.zeros_like(mask)
    filled[box] = piece[1:-1, 1:-1]
    return filled


@lru_cache(maxsize=16)
def _font(pixels: int) -> "FreeTypeFont | ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(pixels)


def annotate(rng: np.random.Generator, picture: FloatArray) -> FloatArray:
    """The picture with burnt-in text at its borders, as often in every class.

    Args:
        rng: of the phantom.
        picture: ``(s, s) float32`` in [0, 1].
    """
    from PIL import Image as PillowImage
    from PIL import ImageDraw

    size = len(picture)
    count = int(rng.integers(0, 4))
    if count == 0:
        return picture
    layer = PillowImage.new("L", (size, size))
    draw = ImageDraw.Draw(layer)
    for _ in range(count):
        letters = rng.choice(list(string.ascii_uppercase + string.digits + " .:/-"), 12)
        text = "".join(letters[: rng.integers(1, 12)])
        x, y = rng.uniform(0.02, 0.7), rng.choice([0.01, 0.05, 0.88, 0.93])
        font = _font(max(6, round(size * float(rng.uniform(0.03, 0.06)))))
        draw.text((x * size, y * size), text, fill=int(rng.integers(140, 256)), font=font)
    return np.maximum(picture, np.asarray(layer, dtype=np.float32) / 255)


def expose(
    rng: np.random.Generator, picture: FloatArray, *, grain: float, spread: float = 0.2
) -> Image:
    """What the scanner makes of a picture: shading, contrast, noise, text, 8 bits.

    Args:
        rng: of the phantom.
        picture: ``(s, s) float32``, about 0 to 1.
        grain: spread of the pixel noise.
        spread: of contrast and brightness between pictures.

    Returns:
        ``(s, s, 3) uint8``, all channels equal.
    """
    size = len(picture)
    gain, gamma, lift = rng.normal(0, (0.6 * spread, spread, 0.15 * spread)).tolist()
    picture = picture * (1 + 0.08 * noise(rng, size, grain=1.5))
    np.clip(picture, 0, 1, out=picture)
    picture **= math.exp(gamma)
    picture *= math.exp(gain)
    picture += lift
    if grain > 0:
        picture += grain * rng.standard_normal((size, size), np.float32)
    np.clip(picture, 0, 1, out=picture)
    levels = (annotate(rng, picture) * 255 + np.float32(0.5)).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2)
