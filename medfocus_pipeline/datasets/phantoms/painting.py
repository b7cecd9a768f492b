"""What a painter hands over: the picture, and the truth about it, also in many words."""

from collections.abc import Callable, Sequence
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

_FRAMES = (
    "{modality} showing {finding}{details}.",
    "{modality} of {finding}{details}.",
    "{modality} with {finding}{details}.",
    "{finding}{details} on {modality}.",
    "{finding}{details} in {modality}.",
    "{modality}: {finding}{details}.",
    "this {bare} shows {finding}{details}.",
    "findings: {finding}{details}; {bare}.",
    "{finding}{details}.",
    "{bare}, {finding}{details}",
    "an image of {finding}{details}.",
    "{modality} demonstrates {finding}{details}.",
    "impression: {finding}{details}.",
)


def pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    """One of several; what `rng.choice` picks, in a tenth of the time."""
    return options[int(rng.integers(len(options)))]


def compose(
    rng: np.random.Generator,
    *,
    modalities: Sequence[str],
    findings: Sequence[str],
    details: Sequence[str],
) -> str:
    """A caption of what was drawn.

    Args:
        rng: of the phantom.
        modalities: ways to name the kind of image, each with its article ("a brain MRI").
        findings: ways to name the finding, each with its article if it has one.
        details: what is seen of it, most telling first; some are left out at random.
    """
    modality, finding = pick(rng, modalities), pick(rng, findings)
    kept = [detail for detail in details if rng.random() < 0.7]
    return pick(rng, _FRAMES).format(
        modality=modality,
        bare=modality.split(" ", 1)[1],
        finding=finding,
        details="".join(f", {detail}" for detail in kept),
    )
