"""Pooling over token grids: a mask's cover of each cell, and cells weighted by it.

This is where the paper's pixel-wise attention happens here: the network sees the whole image, and
the mask weighs what it makes of each place, at the grain of its own maps.
"""

import hashlib
import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

_QUARTERS = 4


def level_indices(depth: int) -> tuple[int, ...]:
    """Which of a network's maps are its levels: after each quarter of its depth.

    One rule for every network: early (a quarter), a half, three quarters and all of the blocks of
    a transformer, or of the stages of a pyramid. The embedding itself stands on top of them.

    Args:
        depth: number of its blocks, or stages, from 1.

    Returns:
        Up to four indices, rising.

    >>> level_indices(12), level_indices(5), level_indices(2)
    ((2, 5, 8, 11), (1, 2, 3, 4), (0, 1))
    """
    quarters = range(1, _QUARTERS + 1)
    return tuple(sorted({math.ceil(depth * part / _QUARTERS) - 1 for part in quarters}))


def square_grid(cells: int) -> tuple[int, int] | None:
    """``(g, g)`` with as many cells; None if there is no such square."""
    side = math.isqrt(cells)
    return (side, side) if side * side == cells else None


def roi_pool(tokens: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean of each picture's tokens, weighted by the ROI.

    The "pixel-wise attention" of the MedFocusCLIP paper at the grain of the token grid:
    ``sum_i w_i t_i / sum_i w_i``.

    Args:
        tokens: ``(n, t, d) float32``.
        weights: ``(n, t) float32``, not negative; a row of zeros stands for the plain mean.

    Returns:
        ``(n, d) float32``.
    """
    pooled: FloatArray = np.einsum("nt,ntd->nd", shares(weights), tokens)
    return pooled


def shares(weights: FloatArray) -> FloatArray:
    """Weights ``(n, t) float32`` scaled to sum 1; a row of zeros becomes 1 / t throughout."""
    total = weights.sum(axis=1, keepdims=True)
    uniform = np.float32(1 / weights.shape[1])
    scaled: FloatArray = np.where(total > 0, weights / np.where(total > 0, total, 1), uniform)
    return scaled


def token_weights(covers: NDArray[np.uint8], grid: tuple[int, int]) -> FloatArray:
    """The share of each token's cell that an ROI covers.

    Args:
        covers: ``(n, e, e) uint8`` over the square that the tokens cover, 255 is all covered.
        grid: ``(gh, gw)`` of the tokens.

    Returns:
        ``(n, gh * gw) float32`` in [0, 1].
    """
    planes = covers.astype(np.float32) / np.float32(255)
    return np.stack([cell_means(plane, grid).ravel() for plane in planes])


def level_width(dim: int) -> int:
    """Greatest dimension of a level: three quarters of that of the embedding.

    So four levels, kept once for all views, have the bytes of an embedding of each of three.

    >>> level_width(512)
    384
    """
    return 3 * dim // 4


def narrowed(rows: "Tensor", width: int) -> "Tensor":
    """Rows ``(..., c)`` in at most `level_width` dimensions, by a projection that is fixed.

    Signs drawn once and for all, over the root of the width, keep lengths and angles up to a
    relative error of about ``1 / sqrt(width)`` (Achlioptas 2003, "Database-friendly random
    projections", theorem 1.1). Since the projection is linear, that of a mean of cells is the mean
    of theirs.

    Args:
        rows: ``(..., c) float32``.
        width: w, see `level_width`.

    Returns:
        ``(..., min(c, w)) float32``; the rows as they are where they are not too wide.
    """
    import torch

    channels = rows.shape[-1]
    if channels <= width:
        return rows
    return rows @ torch.from_numpy(_signs(channels, width)).to(rows)


@lru_cache(maxsize=16)
def _signs(channels: int, width: int) -> FloatArray:
    """``(channels, width) float32`` of ±1 / sqrt(width), on every machine the same."""
    seed = f"level {channels} -> {width}".encode()
    bits = np.frombuffer(hashlib.shake_256(seed).digest(channels * width // 8 + 1), np.uint8)
    ones = np.unpackbits(bits, count=channels * width).reshape(channels, width)
    signs: FloatArray = (2 * ones.astype(np.float32) - 1) / np.float32(math.sqrt(width))
    return signs


def pool_map(cells: "Tensor", covers: "Tensor | None") -> "Tensor":
    """`roi_pool` of a map on its device.

    Args:
        cells: ``(n, gh, gw, c)``.
        covers: ``(n, e, e) float32`` in [0, 1] over the square that the cells cover; None is the
            plain mean.

    Returns:
        ``(n, c) float32``.
    """
    import torch

    cells = cells.float()
    if covers is None:
        return cells.mean(dim=(1, 2))
    rows, columns = (
        torch.from_numpy(_shares(covers.shape[1], count)).to(covers) for count in cells.shape[1:3]
    )
    weights = rows @ covers @ columns.T
    total = weights.sum(dim=(1, 2), keepdim=True)
    uniform = 1 / (cells.shape[1] * cells.shape[2])
    share = torch.where(total > 0, weights / torch.where(total > 0, total, 1), uniform)
    pooled: Tensor = (share.flatten(1)[:, None] @ cells.flatten(1, 2))[:, 0]
    return pooled


def cell_means(plane: FloatArray, grid: tuple[int, int]) -> FloatArray:
    """Mean of a plane over each cell of a grid of equal cells.

    A pixel that a cell boundary cuts counts on either side by the part that lies there.

    Args:
        plane: ``(h, w) float32``.
        grid: ``(gh, gw)``, rows and columns.

    Returns:
        ``(gh, gw) float32``.
    """
    rows, columns = (_shares(size, cells) for size, cells in zip(plane.shape, grid, strict=True))
    means: FloatArray = (rows @ plane @ columns.T).astype(np.float32)
    return means


@lru_cache(maxsize=64)
def _shares(size: int, cells: int) -> NDArray[np.float64]:
    """``(cells, size)``: the part of a cell's length that each pixel makes up."""
    edges = np.arange(cells + 1) * (size / cells)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares: NDArray[np.float64] = np.clip(overlap, 0, None) * (cells / size)
    return shares
