"""From whatever a file holds to ``(h, w, 3) uint8``."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.errors import ImageError
from medfocus_pipeline.types import Image

MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3
"""Width x height above which a file is taken for a decompression bomb: Pillow's own limit."""


def check_size(width: int, height: int) -> None:
    """Refuse what would fill the memory, before it is decoded.

    Raises:
        ImageError: no pixels, or more than `MAX_PIXELS`.
    """
    if width < 1 or height < 1:
        raise ImageError(f"has no pixels ({width} x {height})")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"is too large ({width} x {height}, at most {MAX_PIXELS:,} pixels): decompression bomb?"
        )


def to_rgb8(
    values: NDArray[Any], *, limits: tuple[float, float] | None = None, inverted: bool = False
) -> Image:
    """Scale grey or colour values to 8 bits.

    Args:
        values: ``(h, w)`` or ``(h, w, 3)``, any real type; what is not finite becomes black.
        limits: the values that become 0 and 255; None takes the smallest and largest finite
            one. Equal limits (a constant image) give 0.
        inverted: small values are white.

    Returns:
        ``(h, w, 3) uint8``, C-contiguous.
    """
    real = values.astype(np.float64)
    finite = np.isfinite(real)
    if limits is None:
        known = real[finite]
        limits = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    low, high = limits
    if not high > low:
        return as_rgb(np.zeros(real.shape, dtype=np.uint8))
    real[~finite] = low
    # The span of two float64 limits may overflow; half of each does not.
    scale = 1.0 if math.isfinite(high - low) else 0.5
    span = high * scale - low * scale
    share = np.clip((real * scale - low * scale) / span, 0, 1)
    if inverted:
        share = 1 - share
    share[~finite] = 0
    return as_rgb(np.rint(share * 255).astype(np.uint8))


def as_rgb(values: NDArray[np.uint8]) -> Image:
    """``(h, w)`` or ``(h, w, 3) uint8`` as ``(h, w, 3)``, C-contiguous and writable."""
    colour = np.repeat(values[:, :, None], 3, axis=2) if values.ndim == 2 else values
    return np.require(colour, np.uint8, ["C", "W", "O"])
