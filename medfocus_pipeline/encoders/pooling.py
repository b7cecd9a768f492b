"""Pooling over the token grid: a mask's cover of each token, and tokens weighted by it."""

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.types import FloatArray


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
    total = weights.sum(axis=1, keepdims=True)
    uniform = np.float32(1 / weights.shape[1])
    share = np.where(total > 0, weights / np.where(total > 0, total, 1), uniform)
    pooled: FloatArray = np.einsum("nt,ntd->nd", share, tokens)
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


def _shares(size: int, cells: int) -> NDArray[np.float64]:
    """``(cells, size)``: the part of a cell's length that each pixel makes up."""
    edges = np.arange(cells + 1) * (size / cells)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares: NDArray[np.float64] = np.clip(overlap, 0, None) * (cells / size)
    return shares
