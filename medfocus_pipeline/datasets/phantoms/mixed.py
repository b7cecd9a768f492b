"""Medical phantoms against pictures of anything else: what a gate has to tell apart.

Size, sharpness, colour or file kind must not give the sides away. So both are grey pictures of
one size, and both went through half of it: no detail finer than two pixels is left on either side.
"""

from dataclasses import replace

import numpy as np
import PIL.Image

from medfocus_pipeline.datasets.phantoms import brain, breast, chest, other_pictures
from medfocus_pipeline.datasets.phantoms.painting import Painter, Phantom
from medfocus_pipeline.types import Image

MEDICAL, OTHER = "medical", "non-medical"
CLASSES = (MEDICAL, OTHER)

_SIDES: dict[str, tuple[tuple[tuple[str, ...], Painter], ...]] = {
    MEDICAL: (
        (brain.CLASSES, brain.paint),
        (breast.CLASSES, breast.paint),
        (chest.CHEST_CLASSES, chest.paint_chest),
    ),
    OTHER: ((other_pictures.CLASSES, other_pictures.paint),),
}


def paint(rng: np.random.Generator, label: str, size: int, difficulty: float) -> Phantom:
    """One picture of a side; see `phantom.draw`."""
    kinds = _SIDES[label]
    classes, painter = kinds[int(rng.integers(len(kinds)))]
    drawn = painter(rng, classes[int(rng.integers(len(classes)))], size, difficulty)
    empty = np.zeros((0, size, size), np.bool_)
    nothing = np.zeros((size, size), np.bool_)
    return replace(drawn, image=one_look(drawn.image), label=label, lesion=nothing, parts=empty)


def one_look(image: Image) -> Image:
    """The picture in grey, through half of its size and back, ``(h, w, 3) uint8``."""
    grey = PIL.Image.fromarray(image).convert("L")
    half = (max(1, grey.width // 2), max(1, grey.height // 2))
    small = grey.resize(half, PIL.Image.Resampling.BOX)
    back = np.asarray(small.resize(grey.size, PIL.Image.Resampling.BICUBIC))
    return np.repeat(back[:, :, None], 3, axis=2)
