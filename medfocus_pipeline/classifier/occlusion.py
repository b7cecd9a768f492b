"""Occlusion: what the log-odds lose where a square of the image is covered; see `explanation`."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.classifier.geometry import Geometry
from medfocus_pipeline.classifier.stage_one import StageOne, features
from medfocus_pipeline.types import FloatArray, Image, Roi

_GRID = 8
"""Steps of the square along each side of the image."""

_SQUARE = 2
"""Side of the square, in steps."""

_AT_ONCE = 16
"""Occluded images that are encoded together."""


def occlusion_losses(
    stage_one: StageOne,
    log_odds: Callable[[FloatArray], NDArray[np.float64]],
    image: Image,
    roi: Roi,
) -> FloatArray:
    """What the log-odds lose where a square is covered, ``(h, w) float32``.

    A place's loss is the mean of those of the squares that cover it.
    """

    def odds_of(some: Sequence[Image]) -> NDArray[np.float64]:
        encoded = stage_one.encoded(some, [roi] * len(some))
        return log_odds(features(encoded, stage_one.parts))

    odds = odds_of([image])
    squares = list(_squares(image))
    lost = np.zeros((_GRID, _GRID), np.float32)
    count = np.zeros_like(lost)
    for start in range(0, len(squares), _AT_ONCE):
        some = squares[start : start + _AT_ONCE]
        losses = odds - odds_of([covered for _, covered in some])
        for (cells, _), loss in zip(some, losses, strict=True):
            lost[cells] += loss
            count[cells] += 1
    whole = Geometry((1.0, 0.0), (1.0, 0.0), (image.shape[0], image.shape[1]))
    return whole.spread(lost / count)


def _squares(image: Image) -> Iterator[tuple[tuple[slice, slice], Image]]:
    """Cells of the grid, and the image with them in its mean colour."""
    colour = np.rint(image.mean(axis=(0, 1))).astype(np.uint8)
    rows, columns = (
        np.rint(np.arange(_GRID + 1) / _GRID * length).astype(np.int64)
        for length in image.shape[:2]
    )
    starts = range(_GRID - _SQUARE + 1)
    for row in starts:
        for column in starts:
            covered = image.copy()
            covered[
                rows[row] : rows[row + _SQUARE], columns[column] : columns[column + _SQUARE]
            ] = colour
            yield (slice(row, row + _SQUARE), slice(column, column + _SQUARE)), covered
