"""How well ROIs agree with the annotations that some data sets come with."""

from collections.abc import Iterable, Mapping
from typing import get_args

import numpy as np

from medfocus_pipeline.masks.roi import choose_roi, iou
from medfocus_pipeline.types import Candidates, Mask, RoiRule

ORACLE = "oracle"
"""The candidate that agrees best: what a perfect ROI rule would score."""


def roi_agreement(candidates: Candidates, annotation: Mask) -> dict[str, float]:
    """IoU of every ROI rule's choice with one annotation.

    Args:
        candidates: of the image.
        annotation: ``(h, w) bool``, not empty.

    Returns:
        Rule -> IoU in [0, 1], for each rule that needs no text, and for the `ORACLE`.
    """
    size = (annotation.shape[0], annotation.shape[1])
    rules: list[RoiRule] = [rule for rule in get_args(RoiRule) if rule != "text"]
    agreement: dict[str, float] = {
        rule: iou(choose_roi(candidates, rule, size=size).mask, annotation) for rule in rules
    }
    singles = [
        iou(choose_roi(candidates[index], "best", size=size).mask, annotation)
        for index in range(len(candidates))
    ]
    return agreement | {ORACLE: max(singles, default=agreement["best"])}


def mean_agreement(images: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean over images, rule by rule; empty without images."""
    rows = list(images)
    return {rule: float(np.mean([row[rule] for row in rows])) for rule in rows[0]} if rows else {}
