from typing import cast

import numpy as np
import pytest

from medfocus_pipeline.classifier.geometry import Geometry
from medfocus_pipeline.config import EfficientNetLiteConfig, Runtime
from medfocus_pipeline.encoders import Encoder, find_weights, load_encoder
from medfocus_pipeline.encoders.fit import cover
from medfocus_pipeline.encoders.pooling import cell_means
from medfocus_pipeline.masks.focus import focus_mask, view
from medfocus_pipeline.types import Fit, FocusMode, Roi, View
from medfocus_pipeline.weights import FileHashes
from tests.classifier.packs import MeanEncoder


@pytest.fixture(scope="module")
def cropping() -> Encoder:
    """An encoder that resizes and cuts the edges off."""
    weights = find_weights(EfficientNetLiteConfig(), FileHashes(), download=False)
    assert weights is not None
    return load_encoder(EfficientNetLiteConfig(), weights, Runtime(device="cpu"))


def whole(size: tuple[int, int]) -> Roi:
    return Roi(np.ones(size, np.bool_), fallback=False)


@pytest.mark.parametrize("fit", ["squeeze", "pad", "crop"])
@pytest.mark.parametrize("view_name", ["identity", "hflip", "centre_crop"])
@pytest.mark.parametrize("mode", ["original", "segmented", "crop"])
@pytest.mark.parametrize("size", [(224, 224), (150, 300), (97, 60)])
def test_the_hottest_cell_is_where_its_pixels_came_from(
    cropping: Encoder, size: tuple[int, int], mode: str, view_name: str, fit: Fit
) -> None:
    """The cell that shows most of a spot is hottest at the spot."""
    roi = whole(size)
    roi.mask[: size[0] // 8] = False
    spot = np.zeros(size, np.bool_)
    y, x = int(0.6 * size[0]), int(0.45 * size[1])
    spot[y - size[0] // 12 : y + size[0] // 12, x - size[1] // 12 : x + size[1] // 12] = True
    seen = spot if mode != "crop" else spot[_window(roi, focus_mask(roi, "crop").shape)]
    covered = cover(view(seen, cast("View", view_name)), cropping, fit)
    geometry = Geometry.of(
        roi, cropping, mode=cast("FocusMode", mode), view_name=cast("View", view_name), fit=fit
    )
    heat = geometry.spread(cell_means(covered.astype(np.float32), (28, 28)))
    shares = [
        (places * heat).sum() / heat.sum() / length
        for places, length in zip(np.mgrid[: size[0], : size[1]], size, strict=True)
    ]
    assert shares == pytest.approx([y / size[0], x / size[1]], abs=0.02)


def _window(roi: Roi, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows that the crop shows: all that are left, and a margin above them."""
    return slice(roi.mask.shape[0] - shape[0], None), slice(None)


def test_what_the_encoder_does_not_see_stays_cold(cropping: Encoder) -> None:
    geometry = Geometry.of(
        whole((200, 100)), cropping, mode="original", view_name="identity", fit="crop"
    )
    heat = geometry.spread(np.ones((7, 7), np.float32))
    assert heat[100, 50] == pytest.approx(1)
    assert heat[0].max() == heat[-1].max() == 0


def test_an_image_of_one_pixel_has_one_place() -> None:
    geometry = Geometry.of(
        whole((1, 1)), MeanEncoder(), mode="original", view_name="identity", fit="crop"
    )
    heat = geometry.spread(np.arange(16, dtype=np.float32).reshape(4, 4))
    assert heat.shape == (1, 1)
    assert np.isfinite(heat).all()
