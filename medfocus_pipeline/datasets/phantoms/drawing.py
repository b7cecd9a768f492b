"""What a painter hands over: the picture, and the truth about it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.types import Image, Mask


@dataclass(frozen=True, slots=True)
class Phantom:
    """A drawn image and the truth about it.

    Attributes:
        image: ``(s, s, 3) uint8``; the channels are equal in medical kinds.
        label: the class, as the card of that name calls it.
        lesion: ``(s, s) bool``, all that the class is seen by; empty in healthy classes and in
            pictures.
        parts: ``(p, s, s) bool``, outlines that a segmenter should find: every lesion on its
            own first, then organs and structures. None is empty, they may nest, and there may be
            none at all (p = 0) where nothing stands out.
        caption: an English sentence or phrase that names modality, finding and details.
    """

    image: Image
    label: str
    lesion: Mask
    parts: NDArray[np.bool_]
    caption: str


Painter: TypeAlias = Callable[[np.random.Generator, str, int, float], Phantom]
"""Draws a phantom of a class: generator, class, size in pixels, difficulty."""
