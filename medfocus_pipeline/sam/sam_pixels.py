"""Images as SAM, MedSAM and SAM 2 take them, and their masks in the square frame."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.types import Image

if TYPE_CHECKING:
    from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

Extent = tuple[float, float]
"""Width and height of an image as shares of the model's square one, whose corner it is in."""

WHOLE: Extent = (1.0, 1.0)


def normalised(
    images: Sequence[Image], *, side: int, device: str = "cpu", bicubic: bool = False
) -> "Tensor":
    """``(n, 3, side, side) float32``, squeezed to that size and normalised, as `sam2` does.

    Args:
        images: of any sizes.
        side: the model's image size, in pixels.
        device: where they go before anything is computed.
        bicubic: squeezed by `bicubic_picture` first, as MedSAM2 does.
    """
    import torch

    mean, std = (torch.tensor(x, device=device).view(3, 1, 1) for x in (MEAN, STD))
    pictures = [bicubic_picture(image, side) for image in images] if bicubic else images
    return torch.stack(
        [(_resized(picture, (side, side), device) - mean) / std for picture in pictures]
    )


def bicubic_picture(image: Image, side: int) -> Image:
    """An image squeezed to a square, ``(side, side, 3) uint8``, as MedSAM2's authors do it.

    Their recipe (bowang-lab/MedSAM2, medsam2_infer_3D_CT.py, resize_grayscale_to_rgb_and_resize,
    and sam2/utils/misc.py): Pillow's resize with the filter that it takes unasked.
    """
    from PIL import Image as Pillow

    picture = Pillow.fromarray(image).resize((side, side), Pillow.Resampling.BICUBIC)
    return np.asarray(picture)


def letterboxed(
    images: Sequence[Image], *, side: int, device: str
) -> "tuple[Tensor, list[Extent]]":
    """Images with their aspect ratio kept, as SAM was trained: the rest is zero.

    Args:
        images: of any sizes.
        side: the model's image size, in pixels.
        device: where they go before anything is computed.

    Returns:
        ``(n, 3, side, side) float32``, normalised, and where each image is in it.
    """
    import torch

    mean, std = (torch.tensor(x, device=device).view(3, 1, 1) for x in (MEAN, STD))
    batch = torch.zeros(len(images), 3, side, side, device=device)
    extents = []
    for row, image in zip(batch, images, strict=True):
        height, width = (max(1, round(x * side / max(image.shape[:2]))) for x in image.shape[:2])
        row[:, :height, :width] = (_resized(image, (height, width), device) - mean) / std
        extents.append((width / side, height / side))
    return batch, extents


def stretched(images: Sequence[Image], *, side: int, device: str) -> "Tensor":
    """Images squeezed to a square, their grey levels spread over [0, 1], as MedSAM was trained.

    Args:
        images: of any sizes.
        side: the model's image size, in pixels.
        device: where they go, squeezed.

    Returns:
        ``(n, 3, side, side) float32``.
    """
    import torch

    squares = np.stack([bicubic_square(image, side) for image in images])
    return spread(torch.from_numpy(squares).to(device).permute(0, 3, 1, 2).float())


def bicubic_square(image: Image, side: int) -> Image:
    """An image squeezed to a square, ``(side, side, 3) uint8``, as MedSAM's authors do it.

    Their recipe (bowang-lab/MedSAM, MedSAM_Inference.py): scikit-image's bicubic resize with
    anti-aliasing, cut to uint8; no padding.
    """
    import torch

    writable = np.require(image, np.uint8, ["C", "W"])  # torch warns of anything else
    pixels = torch.from_numpy(writable).permute(2, 0, 1).double()
    down, across = (torch.from_numpy(_bicubic(length, side)) for length in image.shape[:2])
    squeezed = (down @ pixels @ across.mT).clamp(pixels.min(), pixels.max())
    square: Image = squeezed.to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return square


def spread(pixels: "Tensor") -> "Tensor":
    """Each picture's own range of grey levels, over all channels, to [0, 1]; no mean (MedSAM).

    Args:
        pixels: ``(n, 3, s, s) float32``.
    """
    low, high = (end(dim=(1, 2, 3), keepdim=True) for end in (pixels.amin, pixels.amax))
    return (pixels - low) / (high - low).clamp(min=1e-8)


@lru_cache(maxsize=8)
def _bicubic(length: int, side: int) -> NDArray[np.float64]:
    """``(side, length) float64``: scikit-image's resize of one axis, which is linear.

    Two products with these give what `skimage.transform.resize` of the image gives, before its
    clipping, many times faster.
    """
    from skimage import transform

    resize: Callable[..., NDArray[np.float64]] = transform.resize
    return resize(np.eye(length), (side, length), order=3, anti_aliasing=True, clip=False)


def in_frame(logits: "Tensor", extent: Extent, *, frame: int) -> "Tensor":
    """What a model says about its square image, in the frame of the image itself.

    Args:
        logits: ``(k, m, m) float32``.
        extent: where the image is.
        frame: S, side of the frame that the image is squeezed to, in pixels.

    Returns:
        ``(k, S, S) float32``, interpolated once.
    """
    import torch
    from torch.nn import functional

    if extent == WHOLE and logits.shape[-1] == frame:
        return logits
    x, y = extent
    corner = torch.tensor([[[x, 0, x - 1], [0, y, y - 1]]], device=logits.device)
    grid = functional.affine_grid(corner, [1, 1, frame, frame], align_corners=False)
    return functional.grid_sample(
        logits[None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[0]


def _resized(image: Image, size: tuple[int, int], device: str) -> "Tensor":
    """``(3, h, w) float32`` in [0, 1]."""
    import torch
    from torch.nn import functional

    writable = np.require(image, np.uint8, ["C", "W"])  # torch warns of anything else
    pixels = torch.from_numpy(writable).to(device).permute(2, 0, 1).float() / 255
    if pixels.shape[1:] == size:
        return pixels
    return functional.interpolate(pixels[None], size=size, mode="bilinear", antialias=True)[0]
