"""How a picture becomes the square that an encoder takes.

Published preprocessing resizes the short side and cuts off the rest: of a 4:3 ultrasound a network
of ImageNet may see x from .17 to .83, and a region near an end is never looked at. So the picture
is resized whole, unless a row reproduces a paper.
"""

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.types import Fit, Image, Mask

_MAX_RATIO = 64
"""Of the long side to the short one, of which a model's own way to crop sees but the middle."""

_MAX_SIDE = 4096
"""Of the square around a picture, in pixels: a narrow strip would fill the memory."""


def fitted(image: Image, encoder: Encoder, fit: Fit) -> Image:
    """The picture that an encoder sees of an image, ``(s, s, 3) uint8``.

    Args:
        image: ``(h, w, 3) uint8``.
        encoder: says s, and how the model was published.
        fit: see `Fit`; resizing is bicubic with antialiasing.
    """
    if fit == "crop":
        return encoder.prepare(_middle(image))
    side = encoder.side
    return _resized(_square(image) if fit == "pad" else image, (side, side))


def cover(mask: Mask, encoder: Encoder, fit: Fit) -> NDArray[np.uint8]:
    """A mask of the same image through the same geometry, ``(s, s) uint8``: 255 is all covered.

    Args:
        mask: ``(h, w) bool``.
        encoder: see `fitted`.
        fit: see `fitted`.
    """
    painted = np.uint8(255) * mask[:, :, None]
    return fitted(np.repeat(painted, 3, axis=2), encoder, fit)[:, :, 0]


def share_seen(mask: Mask, encoder: Encoder, fit: Fit) -> float:
    """How much of a mask an encoder sees, in [0, 1]; all of it unless the model's way crops.

    Args:
        mask: ``(h, w) bool``, not empty.
        encoder: see `fitted`.
        fit: see `fitted`.
    """
    if fit != "crop":
        return 1.0
    ends = encoder.prepare(_middle(coordinates(mask.shape))).astype(np.float64) / 255
    rows, columns = (
        slice(round(float(one.min()) * length), round(float(one.max()) * length))
        for one, length in zip((ends[..., 1], ends[..., 0]), mask.shape, strict=True)
    )
    return float(mask[rows, columns].sum() / mask.sum())


def coordinates(size: tuple[int, ...]) -> Image:
    """``(h, w, 3) uint8``: red says how far right a pixel is, green how far down; blue is full."""
    height, width = size
    picture = np.full((height, width, 3), 255, np.uint8)
    for channel, length in ((1, height), (0, width)):
        ramp = np.rint((np.arange(length) + 0.5) / length * 255).astype(np.uint8)
        picture[..., channel] = ramp[:, None] if channel == 1 else ramp
    return picture


def _middle(image: Image) -> Image:
    """Of a narrow strip the middle, before its short side is made as long as the model's."""
    most = _MAX_RATIO * min(image.shape[:2])
    rows, columns = (
        slice(max(0, (length - most) // 2), max(0, (length - most) // 2) + most)
        for length in image.shape[:2]
    )
    return np.ascontiguousarray(image[rows, columns])


def _square(image: Image) -> Image:
    """The image in the middle of a black square."""
    height, width = image.shape[:2]
    side = max(height, width)
    if side > _MAX_SIDE:
        height, width = (max(1, round(length * _MAX_SIDE / side)) for length in (height, width))
        image, side = _resized(image, (width, height)), _MAX_SIDE
    square = np.zeros((side, side, 3), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image
    return square


def _resized(image: Image, size: tuple[int, int]) -> Image:
    from PIL import Image as Pillow

    red, green, blue = (image[:, :, channel] for channel in range(3))
    if (red == green).all() and (red == blue).all():
        # Pillow resizes channel by channel: a grey picture's three give the same in half the time.
        grey = Pillow.fromarray(np.ascontiguousarray(red)).resize(size, Pillow.Resampling.BICUBIC)
        return np.repeat(np.asarray(grey)[:, :, None], 3, axis=2)
    picture = Pillow.fromarray(image).resize(size, Pillow.Resampling.BICUBIC)
    return np.asarray(picture)
