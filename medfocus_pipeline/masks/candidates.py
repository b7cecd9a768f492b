"""Candidate masks in the segmenter's square frame: packing, boxes, stability, selection."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.masks.contrast import contrast
from medfocus_pipeline.masks.votes import Votes, support
from medfocus_pipeline.types import Boxes, Candidates, FloatArray, Image, IntArray


@dataclass(frozen=True, slots=True)
class Limits:
    """What a mask must have to become a candidate.

    Attributes:
        min_score: least score.
        min_stability: least stability.
        min_area: least share of the frame.
        max_area: greatest share of the frame.
    """

    min_score: float = 0.0
    min_stability: float = 0.0
    min_area: float = 0.0
    max_area: float = 1.0

    def met(
        self, masks: NDArray[np.bool_], score: FloatArray, stability: FloatArray
    ) -> NDArray[np.bool_]:
        """Which of the masks ``(m, S, S) bool`` are within the limits and not empty."""
        area = areas(masks)
        good = (score >= self.min_score) & (stability >= self.min_stability) & (area > 0)
        return good & (area >= self.min_area) & (area <= self.max_area)


def pack(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Eight pixels a byte: along x, the leftmost pixel in the highest bit.

    Args:
        masks: ``(k, S, S) bool``, S a multiple of 8.

    Returns:
        ``(k, S, S // 8) uint8``.
    """
    return np.packbits(masks, axis=-1, bitorder="big")


def unpack(packed: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The masks that `pack` packed, ``(k, S, S) bool``."""
    return np.unpackbits(packed, axis=-1, bitorder="big").view(np.bool_)


def areas(masks: NDArray[np.bool_]) -> FloatArray:
    """Share of the frame that each mask covers.

    Args:
        masks: ``(k, S, S) bool``.

    Returns:
        ``(k,) float32`` in [0, 1].
    """
    side = masks.shape[-1]
    return np.asarray(_count(masks) / (side * side), dtype=np.float32)


def boxes(masks: NDArray[np.bool_], *, size: tuple[int, int]) -> Boxes:
    """The smallest box around each mask, scaled to the original image.

    Args:
        masks: ``(k, S, S) bool``; an empty mask gets the box 0, 0, 0, 0.
        size: ``(h, w)`` of the original image, in pixels.

    Returns:
        ``(k, 4) float32``, XYXY in pixels of the original image, x1 and y1 exclusive.
    """
    height, width = size
    x0, x1 = _extent(np.any(masks, axis=1))
    y0, y1 = _extent(np.any(masks, axis=2))
    scale = np.array([width, height, width, height]) / masks.shape[-1]
    return np.asarray(np.stack([x0, y0, x1, y1], axis=1) * scale, dtype=np.float32)


def _extent(lines: NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """First index and one past the last of the true values in each row of ``(k, S)``."""
    first = lines.argmax(axis=1)
    end = lines.shape[1] - lines[:, ::-1].argmax(axis=1)
    return first, np.where(lines.any(axis=1), end, 0)


def _count(masks: NDArray[np.bool_]) -> IntArray:
    """Pixels of each mask, ``(k,) int64``."""
    return np.asarray(np.count_nonzero(masks, axis=(1, 2)), dtype=np.int64)


def stability(logits: FloatArray, *, offset: float) -> FloatArray:
    """IoU of each mask with itself at a stricter and a laxer threshold.

    SAM's stability score (Kirillov et al. 2023, appendix B): the area of ``logits > offset``
    over that of ``logits > -offset``, of which it is a part.

    Args:
        logits: ``(k, S, S) float32``, zero on the outline.
        offset: by how much the threshold moves, in logits, above 0.

    Returns:
        ``(k,) float32`` in [0, 1]; 0 where even the laxer mask is empty.
    """
    strict, lax = _count(logits > offset), _count(logits > -offset)
    return (strict / np.maximum(lax, 1)).astype(np.float32)


def select(
    masks: NDArray[np.bool_],
    score: FloatArray,
    stability: FloatArray,
    *,
    image: Image,
    max_candidates: int,
    limits: Limits | None = None,
    duplicate_iou: float = 1.0,
    votes: Votes | None = None,
) -> Candidates:
    """The best of the masks that a segmenter proposes for one image.

    Masks outside the limits, and empty ones, are dropped; then, going down the scores, every
    mask that overlaps a kept one by more than `duplicate_iou`; of the rest the first
    `max_candidates` stay. Equal scores: the more stable mask first, then the earlier one.

    Args:
        masks: ``(m, S, S) bool``.
        score: ``(m,) float32`` in [0, 1].
        stability: ``(m,) float32`` in [0, 1].
        image: ``(h, w, 3) uint8``, the original one.
        max_candidates: how many are kept at most.
        limits: None drops only the empty ones.
        duplicate_iou: greatest IoU that two kept masks may have.
        votes: which prompts the masks answer; None for a segmenter without prompts, whose
            candidates all have a support of 1.

    Returns:
        At most `max_candidates` candidates, best first; k = 0 when nothing is usable.
    """
    usable = np.flatnonzero((limits or Limits()).met(masks, score, stability))
    order = usable[np.lexsort((-stability[usable], -score[usable]))]
    kept = order[_distinct(masks[order], limit=max_candidates, max_iou=duplicate_iou)]
    agreed = np.ones(len(kept), np.float32)
    if votes is not None:
        agreed = support(masks, of=kept, among=usable, votes=votes)
    return Candidates(
        masks=masks[kept],
        score=score[kept].astype(np.float32),
        stability=stability[kept].astype(np.float32),
        support=agreed,
        contrast=contrast(masks[kept], image),
        area=areas(masks[kept]),
        boxes=boxes(masks[kept], size=image.shape[:2]),
    )


def _distinct(masks: NDArray[np.bool_], *, limit: int, max_iou: float) -> list[int]:
    """Indices of the first `limit` masks that overlap no earlier one of them too much."""
    bits = np.packbits(masks, axis=-1)
    area = _count(masks)
    left = np.arange(len(masks))
    kept: list[int] = []
    while len(left) > 0 and len(kept) < limit:
        first, left = left[0], left[1:]
        kept.append(int(first))
        shared = np.bitwise_count(bits[left] & bits[first]).sum(axis=(1, 2), dtype=np.int64)
        iou = shared / (area[left] + area[first] - shared)
        left = left[iou <= max_iou]
    return kept
