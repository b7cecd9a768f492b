"""What a scanner makes of a painted picture: shading, contrast, noise, burnt-in text, 8 bits."""

import math
import string
from functools import lru_cache

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from medfocus_pipeline.datasets.phantoms.textures import noise
from medfocus_pipeline.types import FloatArray, Image

_LETTERS = np.array(list(string.ascii_uppercase + string.digits + " .:/-"))


def expose(
    rng: np.random.Generator, picture: FloatArray, *, grain: float, spread: float = 0.2
) -> Image:
    """What the scanner makes of a picture.

    Args:
        rng: of the phantom.
        picture: ``(s, s) float32``, about 0 to 1.
        grain: spread of the pixel noise.
        spread: of contrast and brightness between pictures.

    Returns:
        ``(s, s, 3) uint8``, all channels equal.
    """
    size = len(picture)
    gain, gamma, lift = rng.normal(0, (0.6 * spread, spread, 0.15 * spread)).tolist()
    seen = noise(rng, size, grain=1.5, spread=0.08)
    seen += 1
    seen *= picture
    np.clip(seen, 0, 1, out=seen)
    seen **= math.exp(gamma)
    seen *= math.exp(gain)
    seen += lift
    if grain > 0:
        dots = rng.standard_normal((size, size), np.float32)
        dots *= grain
        seen += dots
    np.clip(seen, 0, 1, out=seen)
    _annotate(rng, seen)
    return np.stack([levels(seen)] * 3, axis=2)


def levels(picture: FloatArray) -> Image:
    """Brightness from 0 to 1 as 8 bits, of the same shape; the picture is used up."""
    picture *= 255
    picture += 0.5
    return picture.astype(np.uint8)


@lru_cache(maxsize=16)
def font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Letters of a height."""
    return ImageFont.load_default(pixels)


def _annotate(rng: np.random.Generator, picture: FloatArray) -> None:
    """Burn text into a picture's borders, in place, as often in every class."""
    size = len(picture)
    count = int(rng.integers(0, 4))
    if count == 0:
        return
    layer = PillowImage.new("L", (size, size))
    draw = ImageDraw.Draw(layer)
    for _ in range(count):
        letters = rng.choice(_LETTERS, 12)
        text = "".join(letters[: rng.integers(1, 12)])
        x, y = rng.uniform(0.02, 0.7), (0.01, 0.05, 0.88, 0.93)[rng.integers(4)]
        height = max(6, round(size * float(rng.uniform(0.03, 0.06))))
        fill = int(rng.integers(140, 256))
        draw.text((x * size, y * size), text, fill=fill, font=font(height))
    burnt = np.asarray(layer, dtype=np.float32) * np.float32(1 / 255)
    np.maximum(picture, burnt, out=picture)
