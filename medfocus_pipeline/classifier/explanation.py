"""Heat maps: which places of an image speak for the class that was predicted.

With o(f) = log p_c(f) - log(1 - p_c(f)), the log-odds that a head gives the predicted class c for
features f, a place's heat is what o loses without it. No gradient is needed, so that it means the
same for every head; and o, unlike p_c, still moves where the head is certain.

`tokens`: an encoder pools its T tokens t_i into the feature p. With a_i the share of token i
(1 / T, or its cover by the ROI for `roi_pooled`), the feature without it is

    p_i = (p - a_i t_i) / (1 - a_i)            heat_i = o(p) - o(p_i)

exactly so where the feature is the tokens' mean, as in convolutional networks, where to first
order in a_i this is class activation mapping (Zhou et al. 2016, "Learning Deep Features for
Discriminative Localization") of the head's own class direction; for a class token it is a likeness
of patch tokens with that direction. All parts of the features and all views have their maps, which
add up in the image's frame. Of `levels` and `roi_levels`, whose levels are such means of maps at
several depths, the map is that of the level that weighs most: without which o moves furthest.

`occlusion` (Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks",
section 4.2): the image with a square of its mean colour in it, through all of the pipeline but
for the ROI, which stays.

Tokens are the default where there are any. In the pointing game (Zhang et al. 2018, "Top-Down
Neural Attention by Excitation Backprop"), on phantoms whose lesions cover 3 % of the image, the
hottest pixel of lite-clip's 7 x 7 tokens lay in the lesion on 37 to 58 % of 60 images, for four
classifiers, and within 15 pixels of it on 67 to 82 %; that of occlusion on 42 % and 50 % of 12
images, at 13 times the time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline import embedding
from medfocus_pipeline.classifier.geometry import Geometry
from medfocus_pipeline.classifier.stage_one import StageOne, features
from medfocus_pipeline.config import EmbedConfig
from medfocus_pipeline.encoders.clip import ClipEncoder
from medfocus_pipeline.encoders.pooling import shares, token_weights
from medfocus_pipeline.encoders.protocol import Encoder, LevelEncoder
from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.heads.protocol import FittedHead
from medfocus_pipeline.types import FeaturePart, FloatArray, Image, Roi
from medfocus_pipeline.vectors import joined, normalise

HeatMethod: TypeAlias = Literal["tokens", "occlusion"]

_GRID = 8
"""Steps of the square along each side of the image."""

_SQUARE = 2
"""Side of the square, in steps."""

_AT_ONCE = 16
"""Occluded images that are encoded together."""

_DARK_OUTSIDE = ("segmented", "mask")
"""Focus modes that show nothing outside of the ROI."""

_TOKENS_AT_ONCE = 256
"""Features without a token that are classified together."""

_LARGEST_SHARE = 0.95
"""Of one token; without all of them nothing would be left of the feature."""


def settled_method(stage_one: StageOne, method: HeatMethod | None) -> HeatMethod:
    """The method asked for, or the one that suits the encoder.

    Raises:
        ConfigError: ``tokens``, and the encoder has none in the space of its features.
    """
    able = _has_tokens(stage_one.encoder)
    if method == "tokens" and not able:
        raise ConfigError(
            "This encoder has no patch tokens in the space of its features. "
            "Leave the method out, or name occlusion."
        )
    return method or ("tokens" if able else "occlusion")


def heat_of(
    stage_one: StageOne,
    head: FittedHead,
    image: Image,
    roi: Roi,
    predicted: int,
    method: HeatMethod,
) -> FloatArray:
    """Where the predicted class comes from.

    Args:
        stage_one: the models; its parts are those of the head.
        head: of their features.
        image: ``(h, w, 3) uint8``.
        roi: of it.
        predicted: class index.
        method: from `settled_method`.

    Returns:
        ``(h, w) float32`` in [0, 1], its greatest value 1; all 0 where no place speaks for
        the class, as on an image of one colour.
    """
    make = token_losses if method == "tokens" else occlusion_losses
    losses = np.maximum(make(stage_one, head, image, roi, predicted), 0)
    greatest = losses.max()
    heat: FloatArray = losses / greatest if greatest > 0 else losses
    return heat


def token_losses(
    stage_one: StageOne, head: FittedHead, image: Image, roi: Roi, predicted: int
) -> FloatArray:
    """What the log-odds lose without each token, ``(h, w) float32``, of all parts and views."""
    seen = {config.focus: _look(stage_one, config, image, roi) for config in stage_one.modes}
    parts = stage_one.parts
    rows = [[seen[part.focus].arrays[name] for name in part.arrays] for part in parts]

    def log_odds(changed: Sequence[Sequence[FloatArray]]) -> NDArray[np.float64]:
        return _log_odds(head, joined(changed), predicted)

    whole = [
        [array.mean(0, keepdims=True)[None] for array in levels] + [top[None]]
        for *levels, top in rows
    ]
    odds = log_odds(whole)
    means = [
        mean for number, part in enumerate(parts) for mean in seen[part.focus].of(number, part)
    ]
    total = np.zeros(roi.mask.shape, np.float32)
    for mean in _weightiest(means, lambda one: float(abs(odds - log_odds(one))[0]), whole):
        look, mode = seen[parts[mean.part].focus], parts[mean.part].focus
        for place, geometry in enumerate(look.geometries):
            own = rows[mean.part][mean.array][place, mean.columns]
            losses = np.concatenate(
                [
                    odds - log_odds(_replaced(whole, mean, place, some - own))
                    for some in mean.without(place, own)
                ]
            ).astype(np.float32)
            spread = geometry.spread(losses.reshape(mean.grid), extent=look.extent)
            total += spread * roi.mask if mode in _DARK_OUTSIDE else spread
    return total


def occlusion_losses(
    stage_one: StageOne, head: FittedHead, image: Image, roi: Roi, predicted: int
) -> FloatArray:
    """What the log-odds lose where a square is covered, ``(h, w) float32``.

    A place's loss is the mean of those of the squares that cover it.
    """

    def log_odds(some: Sequence[Image]) -> NDArray[np.float64]:
        encoded = stage_one.encoded(some, [roi] * len(some))
        return _log_odds(head, features(encoded, stage_one.parts), predicted)

    odds = log_odds([image])
    squares = list(_squares(image))
    lost = np.zeros((_GRID, _GRID), np.float32)
    count = np.zeros_like(lost)
    for start in range(0, len(squares), _AT_ONCE):
        some = squares[start : start + _AT_ONCE]
        losses = odds - log_odds([covered for _, covered in some])
        for (cells, _), loss in zip(some, losses, strict=True):
            lost[cells] += loss
            count[cells] += 1
    whole = Geometry((1.0, 0.0), (1.0, 0.0), (image.shape[0], image.shape[1]))
    return whole.spread(lost / count)


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
    covered = encoder.token_extent if isinstance(encoder, ImageTower) else encoder.side
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


def _has_tokens(encoder: Encoder) -> bool:
    """Whether there are tokens in the space of the pooled feature; SigLIP's are not."""
    if isinstance(encoder, ClipEncoder) and "siglip" in encoder.text_tower.config.model_type:
        return False
    return encoder.token_grid is not None


def _log_odds(head: FittedHead, rows: FloatArray, predicted: int) -> NDArray[np.float64]:
    """The module's o, ``(m,)``; 1 - p_c is summed from the other classes, which is exact."""
    probabilities = head.predict_proba(rows)
    others = np.delete(probabilities, predicted, axis=1).sum(axis=1)
    tiny = np.finfo(np.float64).tiny
    own = np.maximum(probabilities[:, predicted], tiny)
    odds: NDArray[np.float64] = np.log(own) - np.log(np.maximum(others, tiny))
    return odds


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
