"""A finding at the end of a wide image: every encoder, focus mode and view shows it, or says not.

What is shown is looked for in the pixels that the encoder is given, not in what MedFocus thinks
that it shows.
"""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from medfocus_pipeline.config import (
    ClipConfig,
    EfficientNetLiteConfig,
    EmbedConfig,
    EncoderPluginConfig,
    FeaturesConfig,
    Frozen,
    LiteClipConfig,
    MedClipConfig,
    OpenClipConfig,
    Runtime,
    SamEncoderConfig,
    TimmConfig,
    VisionConfig,
)
from medfocus_pipeline.embedding import LEAST_SEEN, prepare
from medfocus_pipeline.encoders import Encoder, find_weights, load_encoder
from medfocus_pipeline.encoders.table import ENCODERS
from medfocus_pipeline.types import Fit, FocusMode, Image, Roi
from medfocus_pipeline.weights import FileHashes
from tests.encoders import test_medclip, test_open_clip, test_timm, test_vision
from tests.encoders.models import save_clip, save_siglip
from tests.segmenters.sam_models import write_sam


def medclip(folder: Path) -> Path:
    folder.mkdir()
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *test_medclip.WORDS)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    test_medclip.Original(folder).save(folder)
    return folder


def timm_checkpoint(folder: Path) -> Path:
    folder.mkdir()
    return test_timm.save("test_resnet.r160_in1k", folder)


MADE: dict[str, tuple[Callable[[Path], Path] | None, Callable[[Path], Frozen]]] = {
    "lite-clip": (None, lambda _: LiteClipConfig()),
    "efficientnet-lite0": (None, lambda _: EfficientNetLiteConfig()),
    "sam2-lite": (None, lambda _: SamEncoderConfig()),
    "sam": (write_sam, lambda path: SamEncoderConfig(model=str(path))),
    "clip": (save_clip, lambda path: ClipConfig(model=str(path))),
    "siglip": (save_siglip, lambda path: ClipConfig(model=str(path))),
    "open_clip": (test_open_clip.save_native, lambda path: OpenClipConfig(model=str(path))),
    "medclip": (medclip, lambda path: MedClipConfig(checkpoint=path)),
    "rad-dino": (test_vision.save_rad_dino, lambda path: VisionConfig(model=str(path))),
    "dinov3": (test_vision.save_dino3, lambda path: VisionConfig(model=str(path))),
    "timm": (
        timm_checkpoint,
        lambda path: TimmConfig(model="test_resnet.r160_in1k", checkpoint=path),
    ),
}
"""Encoder -> what writes a tiny one, if none comes along, and its configuration."""

GREY, BRIGHT = 60, 150
"""Of the image, and more than what a focus mode leaves of it: the finding alone has it."""


def test_every_family_of_encoders_is_looked_at() -> None:
    kinds = {type(make(Path("x"))) for _, make in MADE.values()}
    assert kinds == set(ENCODERS) - {FeaturesConfig, EncoderPluginConfig}


@pytest.fixture(scope="module", params=MADE)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    write, make = MADE[request.param]
    folder = tmp_path_factory.mktemp("sight") / "tiny"
    config = make(write(folder) if write else folder)
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    return load_encoder(config, weights, Runtime(device="cpu"))


def at_an_end(*, last: bool) -> tuple[Image, Roi]:
    """An image three times as wide as high, an eighth of which is the finding."""
    mask = np.zeros((60, 180), np.bool_)
    mask[:, -22:] = last
    mask[:, :22] |= not last
    image = np.full((60, 180, 3), GREY, np.uint8)
    image[mask] = 250
    return image, Roi(mask, fallback=False)


FIXED = ("identity", "hflip", "centre_crop")


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
def test_the_finding_is_in_sight_or_it_is_said_that_it_is_not(
    encoder: Encoder, *, last: bool
) -> None:
    image, roi = at_an_end(last=last)
    said = []
    for mode, view, fit in product(get_args(FocusMode), FIXED, get_args(Fit)):
        config = EmbedConfig(focus=mode, roi_parts=True, fit=fit, views=(view,))
        ready = prepare(image, roi, config, encoder)
        shown = bool((ready.pictures > BRIGHT).any())
        if ready.seen < LEAST_SEEN:
            said.append((mode, view, fit))
        else:
            assert shown, (mode, view, fit)
    for mode, view, fit in said:
        assert fit == "crop" or (view == "centre_crop" and mode != "crop"), (mode, view, fit)
