"""Where in an image the places of a prepared picture come from.

Focus modes, views and an encoder's own resizing and cropping all keep lines along the axes. So
a picture that has its own coordinates for colours is sent through them, and two straight lines
through what comes out say where each place was.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.encoders.fit import coordinates, fitted
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.masks.focus import focus, view
from medfocus_pipeline.types import Fit, FloatArray, FocusMode, Roi, View

Line = tuple[float, float]
"""Slope and intercept: position in the picture -> position in the image, both in [0, 1]."""

_FLAT = 1e-9

_INSIDE = 0.98
"""Least blue of a pixel that shows the image alone, not the black around it."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """From a prepared picture to the image that it was made of.

    Attributes:
        across, down: of the horizontal and of the vertical positions.
        size: ``(h, w)`` of the image, in pixels.
    """

    across: Line
    down: Line
    size: tuple[int, int]

    @classmethod
    def of(
        cls, roi: Roi, encoder: Encoder, *, mode: FocusMode, view_name: View, fit: Fit
    ) -> "Geometry":
        """Of one view of an image with this ROI."""
        size = (roi.mask.shape[0], roi.mask.shape[1])
        # Of the modes, only the crop moves anything; the others would paint over the colours.
        moved = focus(coordinates(size), roi, "crop" if mode == "crop" else "original")
        picture = fitted(view(moved, view_name), encoder, fit).astype(np.float64) / 255
        inside = picture[..., 2] > _INSIDE
        across, down = (_line(picture[..., axis], inside, axis=axis) for axis in (0, 1))
        return cls(across, down, size)

    def spread(self, cells: FloatArray, *, extent: float = 1.0) -> FloatArray:
        """A grid's values over the image, bilinear between the centres of its cells.

        Args:
            cells: ``(gh, gw) float32``, over the top left square of the prepared picture.
            extent: side of that square, as a share of the picture's.

        Returns:
            ``(h, w) float32``; 0 where the picture does not show the image.
        """
        lines = zip((self.down, self.across), self.size, cells.shape, strict=True)
        rows, columns = (_weights(*line, extent=extent) for line in lines)
        spread: FloatArray = (rows @ cells @ columns.T).astype(np.float32)
        return spread


def _line(values: NDArray[np.float64], inside: NDArray[np.bool_], *, axis: int) -> Line:
    """The line through a colour's profile: its inner half, where no border bends it.

    Args:
        values: ``(s, s)``, the colour.
        inside: ``(s, s)``, where the picture shows the image.
        axis: that the profile is the mean along.
    """
    count = inside.sum(axis=axis)
    shown = np.flatnonzero(count)
    quarter = len(shown) // 4
    inner = shown[quarter : len(shown) - quarter]
    profile = (values * inside).sum(axis=axis)[inner] / count[inner]
    slope, intercept = np.polyfit((inner + 0.5) / len(count), profile, 1)
    return float(slope), float(intercept)


def _weights(line: Line, length: int, cells: int, *, extent: float) -> NDArray[np.float64]:
    """``(length, cells)``: what each cell says at each pixel of one axis of the image."""
    slope, intercept = line
    weights = np.zeros((length, cells))
    if abs(slope) < _FLAT:  # an image of one pixel across: each place shows all of it
        weights[:] = 1 / cells
        return weights
    places = ((np.arange(length) + 0.5) / length - intercept) / slope
    seen = (places >= 0) & (places <= 1)
    centres = np.clip(places / extent * cells - 0.5, 0, cells - 1)
    low = np.minimum(centres.astype(np.int64), max(cells - 2, 0))
    share = centres - low
    rows = np.arange(length)
    weights[rows, low] += 1 - share
    weights[rows, np.minimum(low + 1, cells - 1)] += share
    weights[~seen] = 0
    return weights
