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
from functools import partial
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.classifier.geometry import Geometry
from medfocus_pipeline.classifier.stage_one import StageOne, features
from medfocus_pipeline.classifier.token_maps import token_losses
from medfocus_pipeline.encoders.clip import ClipEncoder
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.heads.protocol import FittedHead
from medfocus_pipeline.types import FloatArray, Image, Roi

HeatMethod: TypeAlias = Literal["tokens", "occlusion"]

_GRID = 8
"""Steps of the square along each side of the image."""

_SQUARE = 2
"""Side of the square, in steps."""

_AT_ONCE = 16
"""Occluded images that are encoded together."""


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
    make = token_losses if method == "tokens" else _occlusion_losses
    losses = np.maximum(make(stage_one, partial(_log_odds, head, predicted), image, roi), 0)
    greatest = losses.max()
    heat: FloatArray = losses / greatest if greatest > 0 else losses
    return heat


def _log_odds(head: FittedHead, predicted: int, rows: FloatArray) -> NDArray[np.float64]:
    """The module's o, ``(m,)``; 1 - p_c is summed from the other classes, which is exact."""
    probabilities = head.predict_proba(rows)
    others = np.delete(probabilities, predicted, axis=1).sum(axis=1)
    tiny = np.finfo(np.float64).tiny
    own = np.maximum(probabilities[:, predicted], tiny)
    odds: NDArray[np.float64] = np.log(own) - np.log(np.maximum(others, tiny))
    return odds


def _has_tokens(encoder: Encoder) -> bool:
    """Whether there are tokens in the space of the pooled feature; SigLIP's are not."""
    if isinstance(encoder, ClipEncoder) and "siglip" in encoder.text_tower.config.model_type:
        return False
    return encoder.token_grid is not None


def _occlusion_losses(
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
