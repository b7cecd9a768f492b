"""Images with outlines to learn from and to measure with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medfocus_pipeline.datasets.readers import read_annotation, read_image
from medfocus_pipeline.errors import DataError, counted
from medfocus_pipeline.sam.sam_pixels import normalised
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import Image, Mask

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Example:
    """An image with an outline.

    Attributes:
        image_id: SHA-256 of the image's file.
        group: the patient, or empty.
        image: its file.
        masks: its annotations' files, at least one of which is not black.
    """

    image_id: str
    group: str
    image: Path
    masks: tuple[Path, ...]

    def read(self) -> tuple[Image, Mask]:
        """The image, ``(h, w, 3) uint8``, and the union of its masks, ``(h, w) bool``.

        Raises:
            ImageError: a file cannot be read any more.
        """
        image = read_image(self.image)
        return image, read_annotation(self.masks, (image.shape[0], image.shape[1]))


def hold_out(
    examples: Sequence[Example], *, share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Examples to learn from, and those to measure with; a patient is on one side.

    Args:
        examples: in any order.
        share: of the examples to measure with; at least one is.
        seed: of the draw.

    Raises:
        DataError: there are fewer than two patients (images, where no patient is known).
    """
    units: dict[str, list[Example]] = {}
    for example in sorted(examples, key=lambda one: one.image_id):
        units.setdefault(example.group or example.image_id, []).append(example)
    if len(units) < 2:
        patients = counted(len(units), "patient")
        raise DataError(
            f"There are {len(examples)} annotated training images of {patients}; expected two "
            "patients at least, one to learn from and one to measure with. Add images with masks "
            "(annotation in the card, see data/README.md)."
        )
    order = generator("sam-adapter hold out", seed).permutation(len(units))
    names = sorted(units)
    aside: list[Example] = []
    for place in order[:-1]:
        if aside and len(aside) >= share * len(examples):
            break
        aside += units[names[place]]
    apart = {example.image_id for example in aside}
    return [one for one in examples if one.image_id not in apart], aside


def batch(
    examples: Sequence[Example], *, side: int, cells: int, mirror: Sequence[bool]
) -> "tuple[Tensor, Tensor]":
    """Some examples as the model takes them.

    Args:
        examples: n.
        side: the model's image size, in pixels.
        cells: m, side of the model's masks.
        mirror: which are turned left to right.

    Returns:
        Pixels ``(n, 3, side, side)`` and, for every cell of the model's masks, the share of it
        that is inside the outline, ``(n, m, m)``; both float32.
    """
    import torch
    from torch.nn import functional

    images, targets = [], []
    for example, turned in zip(examples, mirror, strict=True):
        image, mask = example.read()
        images.append(np.ascontiguousarray(image[:, ::-1]) if turned else image)
        area = torch.from_numpy(mask[:, ::-1].copy() if turned else mask).float()
        targets.append(functional.adaptive_avg_pool2d(area[None], cells)[0])
    return normalised(images, side=side), torch.stack(targets)
