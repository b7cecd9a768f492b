"""Outlines of masks over a picture, in colours that most people can tell apart."""

from collections.abc import Iterable

import numpy as np
import PIL.Image

from medfocus_pipeline.types import Image, Mask

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
    drawn = picture.copy()
    size = (picture.shape[1], picture.shape[0])
    for mask, colour in masks:
        soft = PIL.Image.fromarray(mask.astype(np.float32))
        cover = np.asarray(soft.resize(size, PIL.Image.Resampling.BILINEAR)) >= 0.5
        inner = cover
        for _ in range(width):
            inner = _eroded(inner)
        drawn[cover & ~inner] = colour
    return drawn


def coloured(masks: Iterable[Mask]) -> list[tuple[Mask, Colour]]:
    """Candidates with their colours, to be outlined: the best one last, so that none hides it.

    Args:
        masks: best first.
    """
    pairs = [(mask, CANDIDATES[n % len(CANDIDATES)]) for n, mask in enumerate(masks)]
    return pairs[::-1]


def _eroded(mask: Mask) -> Mask:
    """Without the pixels that have a neighbour outside; beyond the frame is outside."""
    padded = np.pad(mask, 1)
    across = padded[1:-1, :-2] & padded[1:-1, 2:]
    down = padded[:-2, 1:-1] & padded[2:, 1:-1]
    inner: Mask = mask & across & down
    return inner
