"""Token maps: what the log-odds lose without each token of the encoder; see `explanation`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline import embedding
from medfocus_pipeline.classifier.geometry import Geometry
from medfocus_pipeline.classifier.stage_one import StageOne
from medfocus_pipeline.config import EmbedConfig
from medfocus_pipeline.encoders.pooling import shares, token_weights
from medfocus_pipeline.encoders.protocol import LevelEncoder
from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.types import FeaturePart, FloatArray, Image, Roi
from medfocus_pipeline.vectors import joined, normalise

_DARK_OUTSIDE = ("segmented", "mask")
"""Focus modes that show nothing outside of the ROI."""

_TOKENS_AT_ONCE = 256
"""Features without a token that are classified together."""

_LARGEST_SHARE = 0.95
"""Of one token; without all of them nothing would be left of the feature."""


def token_losses(
    stage_one: StageOne,
    log_odds: Callable[[FloatArray], NDArray[np.float64]],
    image: Image,
    roi: Roi,
) -> FloatArray:
    """What the log-odds lose without each token, ``(h, w) float32``, of all parts and views."""
    seen = {config.focus: _look(stage_one, config, image, roi) for config in stage_one.modes}
    parts = stage_one.parts
    rows = [[seen[part.focus].arrays[name] for name in part.arrays] for part in parts]

    def odds_of(changed: Sequence[Sequence[FloatArray]]) -> NDArray[np.float64]:
        return log_odds(joined(changed))

    whole = [
        [array.mean(0, keepdims=True)[None] for array in levels] + [top[None]]
        for *levels, top in rows
    ]
    odds = odds_of(whole)
    means = [
        mean for number, part in enumerate(parts) for mean in seen[part.focus].of(number, part)
    ]
    total = np.zeros(roi.mask.shape, np.float32)
    for mean in _weightiest(means, lambda one: float(abs(odds - odds_of(one))[0]), whole):
        look, mode = seen[parts[mean.part].focus], parts[mean.part].focus
        for place, geometry in enumerate(look.geometries):
            own = rows[mean.part][mean.array][place, mean.columns]
            losses = np.concatenate(
                [
                    odds - odds_of(_replaced(whole, mean, place, some - own))
                    for some in mean.without(place, own)
                ]
            ).astype(np.float32)
            spread = geometry.spread(losses.reshape(mean.grid), extent=look.extent)
            total += spread * roi.mask if mode in _DARK_OUTSIDE else spread
    return total


@dataclass(frozen=True, slots=True, eq=False)
class _Mean:
    """A map whose mean stands somewhere in the features.

    Attributes:
        part, array, columns: where: of which part, in which of its arrays.
        level: from early to the embedding on top; None of a part without levels.
        cells: ``(v, T, c) float32``.
        share: ``(v, T) float32``, the module's a_i.
        grid: of the cells.
        unit: the mean is a level's: brought to length 1, and its array is the views' mean.
    """

    part: int
    array: int
    columns: slice
    level: int | None
    cells: FloatArray
    share: FloatArray
    grid: tuple[int, int]
    unit: bool

    def without(self, place: int, pooled: FloatArray) -> Iterator[FloatArray]:
        """``(t, c)``: the module's p_i of one view, some tokens at a time.

        Args:
            place: of the view.
            pooled: ``(c,)``, p as the features have it; a level's is made anew from its cells.
        """
        cells, share = self.cells[place], self.share[place]
        mean = share @ cells if self.unit else pooled
        for start in range(0, len(cells), _TOKENS_AT_ONCE):
            some = slice(start, start + _TOKENS_AT_ONCE)
            part = np.minimum(share[some], np.float32(_LARGEST_SHARE))[:, None]
            left: FloatArray = (mean - part * cells[some]) / (1 - part)
            yield normalise(left) if self.unit else left


@dataclass(frozen=True, slots=True, eq=False)
class _Look:
    """What the encoder says about the views of one focused image.

    Attributes:
        arrays: ``(v, d) float32`` by the names of a store's.
        tokens: ``(v, gh, gw, d) float32`` in the space of the pooled feature.
        levels: ``(v, gh, gw, c) float32`` of each level.
        covers: ``(v, e, e) uint8`` of the square that the maps cover; None without a region.
        extent: see `Geometry.spread`.
        geometries: of the views.
    """

    arrays: dict[str, FloatArray]
    tokens: FloatArray
    levels: list[FloatArray]
    covers: NDArray[np.uint8] | None
    extent: float
    geometries: list[Geometry]

    def of(self, number: int, part: FeaturePart) -> Iterator[_Mean]:
        """The means that a part is made of."""
        covers = self.covers if part.in_region else None
        deep = len(part.arrays) > 1
        start = 0
        for level, cells in enumerate(self.levels if deep else ()):
            columns = slice(start, start + cells.shape[3])
            start = columns.stop
            yield _mean(number, 0, columns, level, cells, covers, unit=True)
        top = len(self.levels) if deep else None
        every = slice(0, self.tokens.shape[3])
        yield _mean(number, int(deep), every, top, self.tokens, covers, unit=False)


def _mean(
    part: int,
    array: int,
    columns: slice,
    level: int | None,
    cells: FloatArray,
    covers: NDArray[np.uint8] | None,
    *,
    unit: bool,
) -> _Mean:
    grid = (cells.shape[1], cells.shape[2])
    share = np.full((len(cells), grid[0] * grid[1]), 1 / (grid[0] * grid[1]), np.float32)
    if covers is not None:
        share = shares(token_weights(covers, grid))
    flat = cells.reshape(len(cells), -1, cells.shape[3])
    return _Mean(part, array, columns, level, flat, share, grid, unit)


def _weightiest(
    means: Sequence[_Mean],
    moved: Callable[[Sequence[Sequence[FloatArray]]], float],
    whole: Sequence[Sequence[FloatArray]],
) -> list[_Mean]:
    """All means, but of the levels those of one: without which the log-odds move furthest."""
    weights: dict[int, float] = {}
    for level in {mean.level for mean in means if mean.level is not None}:
        emptied = [[array.copy() for array in arrays] for arrays in whole]
        for mean in means:
            if mean.level == level:
                emptied[mean.part][mean.array][..., mean.columns] = 0
        weights[level] = moved(emptied)
    most = max(weights, key=lambda level: weights[level], default=None)
    return [mean for mean in means if mean.level in {None, most}]


def _replaced(
    whole: Sequence[Sequence[FloatArray]], mean: _Mean, place: int, steps: FloatArray
) -> list[list[FloatArray]]:
    """The features with one mean in one view moved by each of ``(t, c)``: ``(t, v, d)`` each."""
    changed = [[np.repeat(array, len(steps), axis=0) for array in arrays] for arrays in whole]
    array = changed[mean.part][mean.array]
    if mean.unit:
        array[:, 0, mean.columns] += steps / np.float32(len(mean.cells))
    else:
        array[:, place, mean.columns] += steps
    return changed


def _look(stage_one: StageOne, config: EmbedConfig, image: Image, roi: Roi) -> _Look:
    encoder = stage_one.encoder
    region = roi if embedding.needs_masks(config) else None
    prepared = embedding.prepare(image, region, config, encoder)
    tokens = encoder.encode(prepared.pictures).tokens
    if tokens is None or encoder.token_grid is None:
        raise ConfigError("This encoder has no patch tokens; name the method occlusion.")
    covered = encoder.model.token_extent if isinstance(encoder, ImageTower) else encoder.side
    covers = prepared.covers
    return _Look(
        embedding.pooled_arrays(encoder, prepared.pictures, covers),
        tokens.reshape(len(tokens), *encoder.token_grid, -1),
        encoder.maps(prepared.pictures) if isinstance(encoder, LevelEncoder) else [],
        None if covers is None else covers[:, :covered, :covered],
        covered / encoder.side,
        [
            Geometry.of(roi, encoder, mode=config.focus, view_name=name, fit=config.fit)
            for name, _ in embedding.renditions(config, "")
        ],
    )
