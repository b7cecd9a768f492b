"""The region of interest: one of an image's candidates, or several together."""

from collections.abc import Callable

import numpy as np

from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.types import Candidates, FloatArray, Mask, Roi, RoiRule

_UNION_SHARE = 0.8
"""Candidates with at least this share of the best score make up the union."""

Rule = Callable[[Candidates, FloatArray | None], list[int]]
"""Which candidates make up the ROI, given the similarities."""


def choose_roi(
    candidates: Candidates,
    rule: RoiRule,
    *,
    size: tuple[int, int],
    similarity: FloatArray | None = None,
) -> Roi:
    """The region of interest of one image.

    The rules, ties going to the candidate that comes first, which is the better one:

    - ``best``: the highest score.
    - ``largest``: the greatest area.
    - ``central``: the highest score times (1 - r), r the distance of the candidate's centroid
      from the centre of the frame as a share of the half diagonal.
    - ``union``: all candidates whose score is at least 0.8 of the best one, together.
    - ``text``: the highest similarity.

    Args:
        candidates: masks in the square frame; without any, the ROI is the whole image.
        rule: one of the above.
        size: ``(h, w)`` of the original image, in pixels.
        similarity: ``(k,) float32``, of each candidate's crop with the class prompts; for
            ``text``.

    Raises:
        ConfigError: no such rule, or ``text`` without `similarity`.
    """
    if rule not in _RULES:
        raise ConfigError(f"No ROI rule {rule!r}; choose one of: {', '.join(_RULES)}.")
    if len(candidates) == 0:
        return Roi(mask=np.ones(size, dtype=np.bool_), fallback=True)
    chosen = candidates.masks[_RULES[rule](candidates, similarity)]
    return Roi(mask=_unsquare(np.any(chosen, axis=0), size=size), fallback=False)


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks of one shape; 1 if both are empty."""
    if a.shape != b.shape:
        raise ValueError(f"Masks of shapes {a.shape} and {b.shape} cannot be compared.")
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def _best(candidates: Candidates, _: FloatArray | None) -> list[int]:
    return [int(candidates.score.argmax())]


def _largest(candidates: Candidates, _: FloatArray | None) -> list[int]:
    return [int(candidates.area.argmax())]


def _central(candidates: Candidates, _: FloatArray | None) -> list[int]:
    away = np.array([_eccentricity(mask) for mask in candidates.masks])
    return [int((candidates.score * (1 - away)).argmax())]


def _union(candidates: Candidates, _: FloatArray | None) -> list[int]:
    least = _UNION_SHARE * candidates.score.max()
    return [index for index, score in enumerate(candidates.score) if score >= least]


def _text(candidates: Candidates, similarity: FloatArray | None) -> list[int]:
    if similarity is None:
        raise ConfigError(
            "The ROI rule text needs an encoder that also embeds text, and this one does not; "
            "use the encoder clip, or another ROI rule."
        )
    if len(similarity) != len(candidates):
        raise ValueError(f"{len(similarity)} similarities for {len(candidates)} candidates.")
    return [int(similarity.argmax())]


_RULES: dict[str, Rule] = {
    "best": _best,
    "largest": _largest,
    "central": _central,
    "union": _union,
    "text": _text,
}


def _eccentricity(mask: Mask) -> float:
    """Distance of the centroid from the frame's centre; the corners are at 1."""
    centroid = (np.argwhere(mask) + 0.5).mean(axis=0) / mask.shape
    return float(np.hypot(*(2 * centroid - 1)) / np.sqrt(2))


def _unsquare(mask: Mask, *, size: tuple[int, int]) -> Mask:
    """A mask of the square frame in the original one, ``(h, w) bool``.

    Bilinear (an area average where the image is the smaller), cut at one half. A mask too thin
    to reach a half anywhere keeps the pixels it covers most, so that none becomes empty.
    """
    from PIL import Image as PillowImage

    height, width = size
    soft = PillowImage.fromarray(mask.astype(np.float32))
    soft = soft.resize((width, height), PillowImage.Resampling.BILINEAR)
    cover: FloatArray = np.asarray(soft)
    return np.greater_equal(cover, min(0.5, cover.max()))
