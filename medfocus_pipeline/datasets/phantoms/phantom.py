"""The kinds of phantoms, and drawing one of them."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from threadpoolctl import ThreadpoolController

from medfocus_pipeline.datasets.phantoms import brain, breast, chest, mixed, other_pictures
from medfocus_pipeline.datasets.phantoms.machines import MACHINES, seen_by
from medfocus_pipeline.datasets.phantoms.painting import Painter, Phantom
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.seeding import generator

CHEST = "chest"
"""Pneumonia or not: what `MACHINES` show, each in its manner."""

PICTURES = "pictures"
"""The kind that is not medical at all."""

MIXED = "mixed"
"""Medical or not: the other kinds against `PICTURES`."""

MASKLESS = frozenset({PICTURES, MIXED})
"""Kinds whose images have no annotation."""

_LARGE = 2**24
"""Bytes; glibc remembers blocks of up to 32 MiB."""

_PAINTERS: dict[str, tuple[tuple[str, ...], Painter]] = {
    "brain": (brain.CLASSES, brain.paint),
    "breast": (breast.CLASSES, breast.paint),
    "covid": (chest.COVID_CLASSES, chest.paint),
    "lungs": (chest.LUNGS_CLASSES, chest.paint),
    CHEST: (chest.CHEST_CLASSES, chest.paint_chest),
    PICTURES: (other_pictures.CLASSES, other_pictures.paint),
    MIXED: (mixed.CLASSES, mixed.paint),
}

KINDS = tuple(kind for kind in _PAINTERS if kind not in (CHEST, *MASKLESS))
"""The medical kinds, each named after the card whose classes it draws: what lite-clip learned."""

CLASSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {kind: classes for kind, (classes, _) in _PAINTERS.items()}
)
"""Kind -> its classes, in the card's order."""


def draw(
    kind: str,
    seed: int,
    index: int,
    *,
    size: int = 224,
    difficulty: float = 0.5,
    label: str | None = None,
    machine: str | None = None,
) -> Phantom:
    """One phantom, the same for the same arguments whatever was drawn before.

    Args:
        kind: one of `KINDS`, `CHEST`, `PICTURES` or `MIXED`.
        seed: of the whole set; 0 is a valid seed.
        index: of the phantom in its set.
        size: side of the square image, in pixels, at least 32.
        difficulty: 0 (plain to see) to 1 (barely there).
        label: its class; None takes the kind's classes in turn.
        machine: one of `MACHINES`, which shows it in its manner; of `CHEST` only.

    Raises:
        ConfigError: no such kind, class or machine, or a size or difficulty out of range.
    """
    if kind not in _PAINTERS:
        raise ConfigError(f"No phantoms of kind {kind!r}; choose one of: {', '.join(_PAINTERS)}.")
    classes, paint = _PAINTERS[kind]
    if label is None:
        label = classes[index % len(classes)]
    if label not in classes:
        raise ConfigError(f"{kind} has no class {label!r}; choose one of: {', '.join(classes)}.")
    if size < 32 or not 0 <= difficulty <= 1:
        raise ConfigError(
            "Expected a size of at least 32 pixels and a difficulty from 0 to 1, "
            f"got {size} and {difficulty}."
        )
    if machine is not None and (kind != CHEST or machine not in MACHINES):
        raise ConfigError(
            f"No phantoms of kind {kind} by the machine {machine!r}: {', '.join(MACHINES)} show "
            f"{CHEST}."
        )
    # Small matrix products are slower on several threads, and their last bits differ.
    with _arithmetic().limit(limits=1, user_api="blas"):
        drawn = paint(generator("phantom", kind, seed, index), label, size, difficulty)
        if machine is None:
            return drawn
        return seen_by(MACHINES[machine], generator("machine", machine, seed, index), drawn)


@lru_cache(maxsize=1)
def _arithmetic() -> ThreadpoolController:
    # Until a large block was freed, glibc gives the system back what a picture's fields took,
    # and a tenth of the time goes into getting it again for the next one.
    np.empty(_LARGE, np.uint8)
    return ThreadpoolController()
