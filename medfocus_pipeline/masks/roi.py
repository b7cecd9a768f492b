"""The region of interest: one of an image's candidates, or several together."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.types import Candidates, FloatArray, Mask, Roi, RoiRule

_UNION_SHARE = 0.7
"""Candidates with at least this share of the best score make up the union."""

_STANDS_OUT = 0.5
"""Least salience of a region that stands out; chosen on phantoms, with and without lesions."""

_INSIDE = 0.9
"""Share of a candidate that lies in a larger one which holds it."""

_LARGER = 1.3
"""Least ratio of the areas of the two."""

_COARSE = 64
"""Side at which candidates are compared, in pixels."""

Rule = Callable[[Candidates, FloatArray | None], list[int]]
"""Which candidates make up the ROI, given the similarities; none is the whole image."""


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
    - ``union``: all candidates whose score is at least 0.7 of the best one, together.
    - ``salient``: the highest salience, which is the score times the square root of the
      contrast times (1 - b), b twice the share of the outline that lies on the frame.
    - ``nested``: the same among the candidates that lie inside another one, as a lesion lies
      in an organ; without any, among all.
    - ``text``: the highest similarity.

    Where no salience reaches 0.5 nothing stands out, and ``salient`` and ``nested`` say so: the
    ROI is the organ, which is the best candidate that holds others, or else the whole image.

    Args:
        candidates: masks in the square frame; without any, the ROI is the whole image
            (`Roi.fallback`).
        rule: one of the above.
        size: ``(h, w)`` of the original image, in pixels.
        similarity: ``(k,) float32``, of each candidate's crop with the class prompts; for
            ``text``.

    Raises:
        ConfigError: no such rule, or ``text`` without `similarity`.
    """
    if rule not in _RULES:
        raise ConfigError(f"No ROI rule {rule!r}; choose one of: {', '.join(_RULES)}.")
    indices = _RULES[rule](candidates, similarity) if len(candidates) > 0 else []
    if not indices:
        return Roi(mask=np.ones(size, dtype=np.bool_), fallback=True)
    chosen = candidates.masks[indices]
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


def _salient(candidates: Candidates, _: FloatArray | None) -> list[int]:
    return _standing_out(candidates, np.ones(len(candidates), np.bool_))


def _nested(candidates: Candidates, _: FloatArray | None) -> list[int]:
    inside: NDArray[np.bool_] = np.asarray(_holds(candidates).any(axis=0))
    return _standing_out(candidates, inside if inside.any() else ~inside)


def _standing_out(candidates: Candidates, eligible: NDArray[np.bool_]) -> list[int]:
    """The most salient of some candidates; the organ, or nothing, where none stands out."""
    salience = np.where(eligible, _salience(candidates), 0)
    if salience.max() >= _STANDS_OUT:
        return [int(salience.argmax())]
    organs = _holds(candidates).any(axis=1)
    return [int(np.where(organs, candidates.score, -1).argmax())] if organs.any() else []


def _salience(candidates: Candidates) -> FloatArray:
    """``(k,) float32`` of 0 and more."""
    clear = 1 - np.minimum(2 * _frame_share(candidates.masks), 1)
    return np.asarray(candidates.score * np.sqrt(candidates.contrast) * clear, np.float32)


def _frame_share(masks: NDArray[np.bool_]) -> FloatArray:
    """Pixels that each mask has on the frame, as a share of its outline, ``(k,) float32``."""
    framed = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    middle = slice(1, -1)
    deep = framed[:, :-2, middle] & framed[:, 2:, middle]
    deep &= framed[:, middle, :-2] & framed[:, middle, 2:]
    outline = np.count_nonzero(masks & ~deep, axis=(1, 2))
    rows, columns = masks[:, [0, -1]], masks[:, :, [0, -1]]
    on_frame = np.count_nonzero(rows, axis=(1, 2)) + np.count_nonzero(columns, axis=(1, 2))
    return np.asarray(on_frame / np.maximum(outline, 1), np.float32)


def _holds(candidates: Candidates) -> NDArray[np.bool_]:
    """Whether candidate i holds candidate j, ``(k, k) bool``."""
    step = max(1, candidates.masks.shape[-1] // _COARSE)
    flat = candidates.masks[:, ::step, ::step].reshape(len(candidates), -1).astype(np.float32)
    shared, area = flat @ flat.T, flat.sum(axis=1)
    holds: NDArray[np.bool_] = shared >= _INSIDE * np.maximum(area, 1)
    holds &= area[:, None] > _LARGER * area
    return holds


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
    "salient": _salient,
    "nested": _nested,
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
