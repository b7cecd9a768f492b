"""Images as SAM 2 takes them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medfocus_pipeline.types import Image

if TYPE_CHECKING:
    from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


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
    from torch.nn import functional

    mean, std = (torch.tensor(x, device=device).view(3, 1, 1) for x in (MEAN, STD))
    batch = []
    for picture in images:
        image = bicubic_picture(picture, side) if bicubic else picture
        writable = np.require(image, np.uint8, ["C", "W"])  # torch warns of anything else
        pixels = torch.from_numpy(writable).to(device).permute(2, 0, 1).float() / 255
        if pixels.shape[1:] != (side, side):
            pixels = functional.interpolate(
                pixels[None], size=(side, side), mode="bilinear", antialias=True
            )[0]
        batch.append((pixels - mean) / std)
    return torch.stack(batch)


def bicubic_picture(image: Image, side: int) -> Image:
    """An image squeezed to a square, ``(side, side, 3) uint8``, as MedSAM2's authors do it.

    Their recipe (bowang-lab/MedSAM2, medsam2_infer_3D_CT.py, resize_grayscale_to_rgb_and_resize,
    and sam2/utils/misc.py): Pillow's resize with the filter that it takes unasked.
    """
    from PIL import Image as Pillow

    picture = Pillow.fromarray(image).resize((side, side), Pillow.Resampling.BICUBIC)
    return np.asarray(picture)
