"""Pictures small enough to go into a page by the hundred."""

import io

import PIL.Image

from medfocus_pipeline.report.content import Picture
from medfocus_pipeline.report.outlines import fitted
from medfocus_pipeline.types import Image

SIDE, THUMBNAIL = 232, 48
"""Longest sides of a picture in a gallery, and of one in a map, in pixels."""

_QUALITY = {SIDE: 62, THUMBNAIL: 45}
"""Of WebP, 0 to 100: outlines stay clean, a gallery's picture has 5 to 10 kB."""


def encoded(picture: Image, *, alt: str, side: int = SIDE) -> Picture:
    """A picture as WebP; a larger one is made smaller, a smaller one is left as it is.

    Args:
        picture: ``(h, w, 3) uint8`` RGB.
        alt: what it shows.
        side: the longest it may be, in pixels.
    """
    shown = fitted(picture, side) if max(picture.shape[:2]) > side else picture
    file = io.BytesIO()
    quality = _QUALITY.get(side, _QUALITY[SIDE])
    PIL.Image.fromarray(shown).save(file, "WEBP", quality=quality, method=4)
    height, width = shown.shape[:2]
    return Picture(file.getvalue(), "image/webp", width, height, alt)
