from dataclasses import replace

import numpy as np
import pytest

from medfocus_pipeline.classifier.explanation import HeatMethod, heat_of, settled_method
from medfocus_pipeline.classifier.stage_one import StageOne
from medfocus_pipeline.config import EmbedConfig
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.types import FeaturePart, Image, Roi
from tests.classifier.packs import DeepMeanEncoder, LovesRed, MeanEncoder

METHODS: tuple[HeatMethod, ...] = ("tokens", "occlusion")
PLACE = (slice(20, 30), slice(60, 72))
"""Of the red spot, in an image of 64 x 96 pixels."""


def models(*parts: str) -> StageOne:
    return StageOne(
        masks=None,
        segmenter=None,
        encoder=MeanEncoder(),
        parts=tuple(map(FeaturePart.parse, parts)),
        embed=EmbedConfig(views=("identity", "hflip", "centre_crop")),
    )


def spotted() -> Image:
    image = np.full((64, 96, 3), 90, np.uint8)
    image[PLACE] = (250, 20, 90)
    return image


def roi(*, left: int = 0) -> Roi:
    mask = np.zeros((64, 96), np.bool_)
    mask[:, left:] = True
    return Roi(mask, fallback=False)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "parts",
    [
        ("original",),
        ("segmented",),
        ("dimmed", "dimmed.roi_pooled"),
        ("crop",),
        ("original", "segmented"),
    ],
)
def test_the_heat_is_where_the_reason_is(method: HeatMethod, parts: tuple[str, ...]) -> None:
    heat = heat_of(models(*parts), LovesRed(), spotted(), roi(left=30), 0, method)
    assert heat.shape == (64, 96)
    assert heat.dtype == np.float32
    assert heat.min() >= 0
    assert heat.max() == 1
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert (y, x) == pytest.approx((25, 66), abs=12)


def test_of_levels_the_heat_is_that_of_the_level_that_weighs_most() -> None:
    """The head reads the colours of the finer level, so the map has its 8 x 8 places."""
    parts = ("original.levels", "original.roi_levels")
    deep = replace(models(*parts), encoder=DeepMeanEncoder())
    heat = heat_of(deep, LovesRed(), spotted(), roi(left=48), 0, "tokens")
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert (y, x) == pytest.approx((25, 66), abs=8)
    coarse = heat_of(models("original"), LovesRed(), spotted(), roi(left=48), 0, "tokens")
    assert (heat > 0.5).sum() < (coarse > 0.5).sum()


@pytest.mark.parametrize("method", METHODS)
def test_what_speaks_for_another_class_is_cold(method: HeatMethod) -> None:
    heat = heat_of(models("original"), LovesRed(), spotted(), roi(), 1, method)
    assert heat[PLACE].max() < 0.5


@pytest.mark.parametrize("method", METHODS)
def test_outside_of_a_region_that_alone_is_seen_nothing_is_hot(method: HeatMethod) -> None:
    image = spotted()
    image[20:30, :10] = (250, 20, 90)
    heat = heat_of(models("segmented"), LovesRed(), image, roi(left=48), 0, method)
    assert heat[:, :36].max() == 0


@pytest.mark.parametrize("method", METHODS)
def test_an_image_of_one_colour_has_no_hot_place(method: HeatMethod) -> None:
    heat = heat_of(
        models("original"), LovesRed(), np.full((64, 96, 3), 90, np.uint8), roi(), 0, method
    )
    assert heat.max() in {0, 1}
    assert np.isfinite(heat).all()


def test_an_encoder_without_tokens_is_explained_by_occlusion() -> None:
    blind = replace(models("original"), encoder=MeanEncoder(token_grid=None))
    assert settled_method(models("original"), None) == "tokens"
    assert settled_method(blind, None) == "occlusion"
    with pytest.raises(ConfigError, match="no patch tokens"):
        settled_method(blind, "tokens")
