"""Pictures: outlined in colours that most people can tell apart, small enough for a page."""

import io
from collections.abc import Iterable

import numpy as np
import PIL.Image

from medfocus_pipeline.report.content import Picture
from medfocus_pipeline.types import Image, Mask

SIDE, THUMBNAIL = 232, 48
"""Longest sides of a picture in a gallery, and of one in a map, in pixels."""

_QUALITY = {SIDE: 62, THUMBNAIL: 45}
"""Of WebP, 0 to 100: outlines stay clean, a gallery's picture has 5 to 10 kB."""

Colour = tuple[int, int, int]

ROI: Colour = (255, 176, 0)
ANNOTATION: Colour = (0, 190, 255)

CANDIDATES: tuple[Colour, ...] = (
    (255, 176, 0),
    (100, 143, 255),
    (220, 38, 127),
    (0, 200, 140),
    (254, 97, 0),
    (150, 110, 255),
    (240, 228, 66),
    (0, 190, 255),
)
"""Of candidates, best first; told apart by colour-blind people too, most of them."""

BEST = 5
"""Candidates of a picture; more outlines cannot be told apart."""

LINE = 2
"""Width of outlines, in pixels; a ROI's is twice as wide as the annotation's in it."""


def fitted(picture: Image, side: int) -> Image:
    """A picture as large as a square allows, with its aspect ratio.

    Args:
        picture: ``(h, w, 3) uint8`` RGB.
        side: of the square, in pixels.

    Returns:
        ``(h', w', 3) uint8``, max(h', w') = `side`.
    """
    scale = side / max(picture.shape[:2])
    height, width = (max(1, round(scale * length)) for length in picture.shape[:2])
    resized = PIL.Image.fromarray(picture).resize((width, height), PIL.Image.Resampling.BICUBIC)
    return np.asarray(resized)


def outlined(picture: Image, masks: Iterable[tuple[Mask, Colour]], *, width: int) -> Image:
    """A picture with the inner edges of masks; later masks are drawn over earlier ones.

    Args:
        picture: ``(h, w, 3) uint8`` RGB.
        masks: ``(h', w') bool`` of any size, stretched over the picture, and their colours.
        width: of the lines, in pixels of the picture.

    Returns:
        ``(h, w, 3) uint8``; `picture` is left as it is.
    """
    from scipy.ndimage import binary_erosion

    drawn = picture.copy()
    size = (picture.shape[1], picture.shape[0])
    for mask, colour in masks:
        soft = PIL.Image.fromarray(mask.astype(np.float32))
        cover = np.asarray(soft.resize(size, PIL.Image.Resampling.BILINEAR)) >= 0.5
        drawn[cover & ~binary_erosion(cover, iterations=width)] = colour
    return drawn


def with_region(picture: Image, roi: Mask, annotation: Mask | None) -> Image:
    """A picture with its ROI outlined and, half as wide, the annotation if somebody drew one.

    Args:
        picture: ``(h, w, 3) uint8`` RGB.
        roi, annotation: ``(h', w') bool`` of any size.
    """
    drawn = outlined(picture, [(roi, ROI)], width=2 * LINE)
    return drawn if annotation is None else outlined(drawn, [(annotation, ANNOTATION)], width=LINE)


def coloured(masks: Iterable[Mask]) -> list[tuple[Mask, Colour]]:
    """Candidates with their colours, to be outlined: the best one last, so that none hides it.

    Args:
        masks: best first.
    """
    pairs = [(mask, CANDIDATES[n % len(CANDIDATES)]) for n, mask in enumerate(masks)]
    return pairs[::-1]


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
