"""From whatever a file holds to ``(h, w, 3) uint8``, in the memory that all threads share."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.errors import ImageError
from medfocus_pipeline.types import Image

MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3
"""Width x height above which a file is taken for a decompression bomb: Pillow's own limit."""

KEPT_PIXELS = 2**24
"""Width x height above which a picture is made smaller: no model looks at a quarter as many."""

MAX_RATIO = 256
"""Of the long side to the short one: a narrower strip is no picture."""

_EXTREME = 0.005
"""Share of the values on either side that may lie outside of the range."""

_SAMPLED = 2**20
"""Values from which that share is told."""

_BAND = 2**20
"""Pixels that are scaled at a time."""


class Room:
    """A number of bytes that threads share: who finds too few left waits until others are done."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def take(self, wanted: int) -> Iterator[None]:
        """Hold some bytes; who wants more than there are gets all of them, alone."""
        share = min(wanted, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= share)
            self._free -= share
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()


_ROOM = Room(2**30)


@contextmanager
def room_for(width: int, height: int, *, each: int, beside: int = 0) -> Iterator[None]:
    """Hold the memory that decoding a picture takes, once its size is known and before it is read.

    Args:
        each: bytes that a pixel takes at the worst moment, all copies together.
        beside: bytes that the file takes whatever the picture's size.

    Raises:
        ImageError: no pixels, more than `MAX_PIXELS`, or a ratio above `MAX_RATIO`.
    """
    _check_size(width, height)
    with _ROOM.take(width * height * each + beside):
        yield


def _check_size(width: int, height: int) -> None:
    """Refuse what would fill the memory, before it is decoded."""
    if width < 1 or height < 1:
        raise ImageError(f"has no pixels ({width} x {height})")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"is too large ({width} x {height}, at most {MAX_PIXELS:,} pixels): decompression bomb?"
        )
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ImageError(
            f"is too narrow ({width} x {height}; the long side may be {MAX_RATIO} times the other)"
        )


def to_rgb8(
    values: NDArray[Any],
    *,
    limits: tuple[float, float] | None = None,
    inverted: bool = False,
    shown: Callable[[NDArray[Any]], NDArray[Any]] = lambda band: band,
) -> Image:
    """Scale grey or colour values to 8 bits, a band of rows at a time.

    Args:
        values: ``(h, w)`` or ``(h, w, 3)``, any real type; what is not finite becomes black.
        limits: the values that become 0 and 255; None takes the smallest and largest finite
            one, or, where a few extreme ones (a burnt-in marker, a hot voxel) would leave the
            rest less than a quarter of the grey levels, the range without the outer
            `_EXTREME` on either side. Equal limits (a constant image) give 0.
        inverted: small values are white.
        shown: what stored values mean; it is given whole rows and changes each value for itself.

    Returns:
        ``(h, w, 3) uint8``, C-contiguous; see `as_rgb` for large ones.
    """
    low, high = _limits(values, shown) if limits is None else limits
    scaled = np.zeros(values.shape, np.uint8)
    if high > low:
        for band in _bands(values):
            scaled[band] = _scaled(shown(values[band]), low, high, inverted=inverted)
    return as_rgb(scaled)


def _bands(values: NDArray[Any]) -> Iterator[slice]:
    """Whole rows of about `_BAND` values together."""
    height = max(1, _BAND // max(1, values[0].size))
    return (slice(top, top + height) for top in range(0, len(values), height))


def _limits(
    values: NDArray[Any], shown: Callable[[NDArray[Any]], NDArray[Any]]
) -> tuple[float, float]:
    """The range of the finite values, without extreme ones; zeros without any."""
    low, high = math.inf, -math.inf
    step = max(1, values.size // _SAMPLED)
    sampled = []
    for band in _bands(values):
        real = shown(values[band]).astype(np.float64)
        known = real[np.isfinite(real)]
        if known.size:
            low, high = min(low, float(known.min())), max(high, float(known.max()))
            sampled.append(known[::step])
    if low >= high:
        return (low, high) if low <= high else (0.0, 0.0)
    inner = np.quantile(np.concatenate(sampled), (_EXTREME, 1 - _EXTREME))
    robust = float(inner[0]), float(inner[1])
    narrow = robust[1] / 4 - robust[0] / 4 < (high / 4 - low / 4) / 4
    return robust if narrow and robust[0] < robust[1] else (low, high)


def _scaled(values: NDArray[Any], low: float, high: float, *, inverted: bool) -> NDArray[np.uint8]:
    real = values.astype(np.float64)
    finite = np.isfinite(real)
    real[~finite] = low
    # The span of two float64 limits may overflow; half of each does not.
    scale = 1.0 if math.isfinite(high - low) else 0.5
    span = high * scale - low * scale
    share = np.clip((real * scale - low * scale) / span, 0, 1)
    if inverted:
        share = 1 - share
    share[~finite] = 0
    scaled: NDArray[np.uint8] = np.rint(share * 255).astype(np.uint8)
    return scaled


def at_most_two_values(picture: Image) -> bool:
    """Whether a picture is of two colours or one, as an annotation mask is."""
    flat = picture.reshape(-1, 3)
    for part in (flat[::64], flat):  # a few pixels tell nearly always
        others = part[(part != flat[0]).any(axis=1)]
        if len(others) and (others != others[0]).any():
            return False
    return True


def reduction(height: int, width: int) -> int:
    """By what a picture's sides are divided; 1 is not at all."""
    return math.ceil(math.sqrt(height * width / KEPT_PIXELS))


def as_rgb(values: NDArray[np.uint8]) -> Image:
    """``(h, w)`` or ``(h, w, 3) uint8`` as ``(h, w, 3)``, C-contiguous and writable.

    Of more than `KEPT_PIXELS`, `reduction` times as many rows and columns become one.
    """
    factor = reduction(*values.shape[:2])
    if factor > 1:
        import PIL.Image

        values = np.asarray(PIL.Image.fromarray(values).reduce(factor))
    colour = np.repeat(values[:, :, None], 3, axis=2) if values.ndim == 2 else values
    return np.require(colour, np.uint8, ["C", "W", "O"])
