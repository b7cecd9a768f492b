"""Images to measure with: made up, the size of the real ones."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("disc", "square")


def write_pictures(root: Path, *, images: int, side: int) -> Path:
    """A folder of class folders, half of the images each.

    Args:
        images: number of JPEG files.
        side: height and width, in pixels.
    """
    for number in range(images):
        name = CLASSES[number % 2]
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(_picture(number, side))
        picture.save(folder / f"{number:05d}.jpg", quality=90)
    return root


def _picture(number: int, side: int) -> NDArray[np.uint8]:
    """A bright disc or square on a dark, noisy ground, ``(side, side) uint8``."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side] / side
    centre_x, centre_y = rng.uniform(0.35, 0.65, 2)
    dx, dy = np.abs(x - centre_x), np.abs(y - centre_y)
    distance = np.hypot(dx, dy) if number % 2 == 0 else np.maximum(dx, dy)
    grey = rng.normal(40, 8, (side, side)) + 150 * (distance < rng.uniform(0.12, 0.2))
    picture: NDArray[np.uint8] = np.clip(grey, 0, 255).astype(np.uint8)
    return picture
