"""Contrast: how a region differs from the ring around it, darker or brighter alike."""

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.types import FloatArray, Image

_SIDE = 64
"""Regions are looked at at this side, in pixels: what counts is tissue, not its grain."""

_RING = 0.25
"""Width of the ring, as a share of the radius of a disc of the region's area."""

_FLOOR = 0.02
"""Least spread of the brightness, in [0, 1]: a flat region in a flat ring is no infinite find."""


def contrast(masks: NDArray[np.bool_], image: Image) -> FloatArray:
    """How far the mean brightness inside each mask is from that of the ring around it.

    Args:
        masks: ``(k, S, S) bool``, in the square frame.
        image: ``(h, w, 3) uint8``, of any size.

    Returns:
        ``(k,) float32`` of 0 and more, in units of the mean spread of both; 0 for a mask with
        nothing around it.
    """
    grey = _grey(image)
    step = max(1, masks.shape[-1] // _SIDE)
    small = masks[:, ::step, ::step]
    side = small.shape[-1]
    if side != _SIDE:
        rows = np.arange(_SIDE) * side // _SIDE
        small = small[:, rows][:, :, rows]
    return np.array([_of_one(mask, grey) for mask in small], dtype=np.float32)


def _of_one(mask: NDArray[np.bool_], grey: FloatArray) -> float:
    from scipy.ndimage import binary_dilation

    radius = np.sqrt(np.count_nonzero(mask) / np.pi)
    width = max(1, round(_RING * float(radius)))
    inside, ring = grey[mask], grey[binary_dilation(mask, iterations=width) & ~mask]
    if len(inside) == 0 or len(ring) == 0:
        return 0.0
    spread = np.sqrt((inside.var() + ring.var()) / 2) + _FLOOR
    return float(abs(inside.mean() - ring.mean()) / spread)


def _grey(image: Image) -> FloatArray:
    """Brightness in [0, 1], ``(64, 64) float32``."""
    from PIL import Image as PillowImage

    small = PillowImage.fromarray(image).convert("L")
    small = small.resize((_SIDE, _SIDE), PillowImage.Resampling.BOX)
    grey: FloatArray = np.asarray(small, dtype=np.float32)
    return grey / np.float32(255)
