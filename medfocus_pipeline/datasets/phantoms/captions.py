"""Captions: the same finding in many words."""

from collections.abc import Sequence

import numpy as np

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
