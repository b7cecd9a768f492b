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
add up in the image's frame.

`occlusion` (Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks",
section 4.2): the image with a square of its mean colour in it, through all of the pipeline but
for the ROI, which stays.

Tokens are the default where there are any. In the pointing game (Zhang et al. 2018, "Top-Down
Neural Attention by Excitation Backprop"), on phantoms whose lesions cover 3 % of the image, the
hottest pixel of lite-clip's 7 x 7 tokens lay in the lesion on 37 to 58 % of 60 images, for four
classifiers, and within 15 pixels of it on 67 to 82 %; that of occlusion on 42 % and 50 % of 12
images, at 13 times the time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline import embedding
from medfocus_pipeline.classifier.geometry import Geometry
from medfocus_pipeline.classifier.stage_one import StageOne, features, sources
from medfocus_pipeline.config import EmbedConfig
from medfocus_pipeline.encoders.clip import ClipEncoder
from medfocus_pipeline.encoders.pooling import roi_pool
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.features import joined
from medfocus_pipeline.heads.protocol import FittedHead
from medfocus_pipeline.types import FloatArray, Image, Roi

HeatMethod: TypeAlias = Literal["tokens", "occlusion"]

_GRID = 8
"""Steps of the square along each side of the image."""

_SQUARE = 2
"""Side of the square, in steps."""

_AT_ONCE = 16
"""Occluded images that are encoded together."""

_DARK_OUTSIDE = ("segmented", "mask")
"""Focus modes that show nothing outside of the ROI."""
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
    pairs = sources(stage_one.parts)
    pooled = [seen[mode].pooled(name) for mode, name in pairs]
    odds = _log_odds(head, joined([rows[None] for rows in pooled]), predicted)
    total = np.zeros(roi.mask.shape, np.float32)
    for number, (mode, name) in enumerate(pairs):
        look = seen[mode]
        for place, geometry in enumerate(look.geometries):
            moved = [np.repeat(rows[None], look.tokens.shape[1], axis=0) for rows in pooled]
            moved[number][:, place] = look.without(name, place)
            losses = (odds - _log_odds(head, joined(moved), predicted)).astype(np.float32)
            spread = geometry.spread(losses.reshape(look.grid), extent=look.extent)
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
class _Look:
    """What the encoder says about the views of one focused image.

    Attributes:
        feature: ``(v, d) float32``, pooled by the encoder.
        tokens: ``(v, T, d) float32``.
        cover: ``(v, T) float32``, of each token by the ROI; None without a region.
        grid: of the tokens.
        extent: see `Geometry.spread`.
        geometries: of the views.
    """

    feature: FloatArray
    tokens: FloatArray
    cover: FloatArray | None
    grid: tuple[int, int]
    extent: float
    geometries: list[Geometry]

    def pooled(self, name: str) -> FloatArray:
        """``(v, d)``: `pooled`, or `roi_pooled`."""
        if name == "pooled" or self.cover is None:
            return self.feature
        return roi_pool(self.tokens, self.cover)

    def without(self, name: str, place: int) -> FloatArray:
        """``(T, d)``: the module's p_i, of one view."""
        tokens = self.tokens[place]
        share = np.full(len(tokens), 1 / len(tokens), np.float32)
        if name == "roi_pooled" and self.cover is not None and self.cover[place].any():
            share = self.cover[place] / self.cover[place].sum()
        share = np.minimum(share, np.float32(_LARGEST_SHARE))[:, None]
        without: FloatArray = (self.pooled(name)[place] - share * tokens) / (1 - share)
        return without


def _look(stage_one: StageOne, config: EmbedConfig, image: Image, roi: Roi) -> _Look:
    encoder = stage_one.encoder
    region = roi if embedding.needs_masks(config) else None
    prepared = embedding.prepare(image, region, config, encoder)
    encoded = encoder.encode(prepared.pictures)
    if encoded.tokens is None or encoder.token_grid is None:
        raise ConfigError("This encoder has no patch tokens; name the method occlusion.")
    side = prepared.pictures.shape[1]
    covered = encoder.token_extent if isinstance(encoder, ImageTower) else side
    geometries = [
        Geometry.of(roi, encoder, mode=config.focus, view_name=name) for name in config.views
    ]
    return _Look(
        encoded.pooled,
        encoded.tokens,
        prepared.weights,
        encoder.token_grid,
        covered / side,
        geometries,
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
