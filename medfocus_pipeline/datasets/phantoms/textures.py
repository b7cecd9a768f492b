"""Random textures and smooth fields: noise, speckle, blur, enlargement.

Each is a small field between two matrices that are almost empty: few products where one of a whole
matrix would be many.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.types import FloatArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_SPARSE = 48
"""Columns from which on a matrix of a few per row is stored without its zeros: faster then."""


def noise(
    rng: np.random.Generator, size: int, *, grain: float, octaves: int = 1, spread: float = 1.0
) -> FloatArray:
    """A smooth random field with about zero mean, ``(s, s) float32``.

    Args:
        rng: of the phantom.
        size: side, in pixels.
        grain: size of its features in coordinates, a pixel to 2.
        octaves: fields of half the grain and half the weight that are added.
        spread: of the sum's values.
    """
    weight = spread / np.sqrt(sum(0.25**octave for octave in range(octaves)))
    field = _octave(rng, size, grain, weight)
    for octave in range(1, octaves):
        field += _octave(rng, size, grain * 0.5**octave, weight * 0.5**octave)
    return field


def _octave(rng: np.random.Generator, size: int, grain: float, spread: float) -> FloatArray:
    spline = _spline(size, min(size, max(2, round(2 / grain))))
    knots = rng.standard_normal((spline.shape[1], spline.shape[1]), dtype=np.float32)
    knots *= np.float32(spread)
    return _between(spline, knots, spline)


def speckle(rng: np.random.Generator, size: int, *, across: float, along: float) -> FloatArray:
    """Log-compressed speckle of zero mean, ``(s, s) float32``.

    Args:
        rng: of the phantom.
        size: side, in pixels.
        across: size of its grains along x, in coordinates.
        along: size of its grains along y.
    """
    rows, columns = (_spline(size, min(size, round(2 / grain))) for grain in (along, across))
    knots = rng.standard_normal((2, rows.shape[1], columns.shape[1]), dtype=np.float32)
    field, imaginary = (_between(rows, part, columns) for part in knots)
    field *= field
    imaginary *= imaginary
    field += imaginary
    field += np.float32(0.02)
    np.log(field, out=field)
    field *= 0.5
    field -= field.mean()
    return field


def blur(picture: FloatArray, sigma: float) -> FloatArray:
    """Gaussian blur of a square; `sigma` in coordinates, so that it looks alike at every size."""
    matrix = _gaussian(len(picture), sigma * len(picture) / 2)
    return _between(matrix, picture, matrix)


def softened(picture: FloatArray, share: float) -> FloatArray:
    """The mean of each pixel of a square and a share of its eight neighbours: a small box blur."""
    matrix = _box(len(picture), share)
    return _between(matrix, picture, matrix)


def enlarged(picture: FloatArray, size: int) -> FloatArray:
    """A smooth square at the picture's size, ``(s, s) float32``, linear between its pixels."""
    if len(picture) == size:
        return picture
    matrix = _linear(size, len(picture))
    return _between(matrix, picture, matrix)


def _between(
    rows: "FloatArray | csr_array", field: FloatArray, columns: "FloatArray | csr_array"
) -> FloatArray:
    """``rows @ field @ columns.T``, with the matrices at the left, where sparse ones are fast."""
    return np.asarray(rows @ (columns @ field.T).T, np.float32)


@lru_cache(maxsize=512)
def _spline(size: int, cells: int) -> "FloatArray | csr_array":
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
    return _matrix(weights, cell[:, None] + np.arange(4), cells + 3)


@lru_cache(maxsize=32)
def _gaussian(size: int, sigma: float) -> "FloatArray | csr_array":
    """A Gaussian that is cut off at two sigma, in pixels; the picture is mirrored at its border."""
    reach = int(2 * sigma + 0.5)
    away = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * np.square(away / sigma))
    weights /= weights.sum()
    there = np.arange(size)[:, None] + away
    there = np.where(there < 0, -1 - there, np.where(there < size, there, 2 * size - 1 - there))
    return _matrix(np.broadcast_to(weights, there.shape), there, size)


@lru_cache(maxsize=8)
def _box(size: int, share: float) -> "FloatArray | csr_array":
    weights = np.array([share, 1, share]) / (1 + 2 * share)
    there = np.clip(np.arange(size)[:, None] + np.arange(-1, 2), 0, size - 1)
    return _matrix(np.broadcast_to(weights, there.shape), there, size)


@lru_cache(maxsize=32)
def _linear(size: int, pixels: int) -> "FloatArray | csr_array":
    """Values at the centres of fewer pixels -> at the centres of more."""
    place = np.clip((np.arange(size) + 0.5) * pixels / size - 0.5, 0, pixels - 1)
    first = np.minimum(place.astype(np.int64), pixels - 2)
    share = place - first
    return _matrix(
        np.stack([1 - share, share], axis=1), np.stack([first, first + 1], axis=1), pixels
    )


def _matrix(
    values: NDArray[np.float64], columns: NDArray[np.int64], count: int
) -> "FloatArray | csr_array":
    """A matrix of as many columns, of a few values in each row; the same place twice adds up."""
    from scipy.sparse import csr_array

    size, each = values.shape
    ends = np.arange(0, size * each + 1, each)
    matrix = csr_array((values.ravel(), columns.ravel(), ends), shape=(size, count))
    matrix.sum_duplicates()
    single = matrix.astype(np.float32)
    return single if count > _SPARSE else single.toarray()
