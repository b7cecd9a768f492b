"""MedFocus's SAM2 against the package's own automatic mask generator, on the same points."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medfocus_pipeline.config import Sam2Config
from medfocus_pipeline.devices import autocast
from medfocus_pipeline.sam.sam2 import random_model
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.segmenters.sam2_segmenter import Sam2Segmenter
from medfocus_pipeline.types import JSON, Image, Precision

_SIDE = 640
"""Side of the test images, in pixels."""

_OFFSET = 0.05
"""Shift of the threshold for the stability: random weights give small logits."""

_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def compare(
    *,
    points_per_side: int = 16,
    images: int = 1,
    repeats: int = 1,
    points_per_batch: int = 16,
    precisions: Sequence[Precision] = _PRECISIONS,
) -> JSON:
    """Images per second of both on the CPU, with random weights of SAM 2.1 tiny.

    Random weights judge at random, so the thresholds are set for both from a pilot of 4 x 4
    points: half of the masks pass the score, and a quarter of those the stability. An eighth of
    the masks is then left, as with real weights, and hardly a point is rejected before its
    masks are drawn. Both ask all points of the grid; how long MedFocus takes when it chooses
    among them is a figure of its own.

    Args:
        points_per_side: of the grid.
        images: test images of 640 x 640 pixels.
        repeats: timed runs, of which the fastest counts.
        points_per_batch: the generator's chunk; its default is 64, and 16 is faster on a CPU.
        precisions: what to compare in.

    Returns:
        The settings and, for each precision, seconds per image of both, their ratio, and
        seconds with adaptive prompting.
    """
    import torch

    model = random_model("tiny", seed=0)
    pictures = [_blobs(index) for index in range(images)]
    min_score, min_stability = _thresholds(model, pictures[0])
    figures: JSON = {
        "points": points_per_side**2,
        "threads": torch.get_num_threads(),
        "min_score": min_score,
        "min_stability": min_stability,
    }
    for precision in precisions:
        config = Sam2Config(
            size="tiny",
            points_per_side=points_per_side,
            prompting="grid",
            min_score=min_score,
            min_stability=min_stability,
            stability_offset=_OFFSET,
            precision=precision,
        )
        ours = Sam2Segmenter(model, config, max_candidates=16, frame=256)
        theirs = _generator(model, config, points_per_batch)
        figures[precision] = _race(ours, theirs, pictures, repeats=repeats, precision=precision)
        choosy = config.model_copy(update={"prompting": "adaptive"})
        adaptive = Sam2Segmenter(model, choosy, max_candidates=16, frame=256)
        figures[precision]["adaptive_seconds"] = min(
            _own_seconds(adaptive, pictures) for _ in range(repeats)
        )
    return figures


def _race(
    ours: Sam2Segmenter,
    theirs: Any,
    pictures: Sequence[Image],
    *,
    repeats: int,
    precision: Precision,
) -> JSON:
    """Seconds per image of both, each the least of `repeats` runs that take turns."""
    own, package = [], []
    for _ in range(repeats):
        own.append(_own_seconds(ours, pictures))
        with autocast("cpu", precision):
            package.append(_seconds(theirs.generate, pictures))
    return {
        "medfocus_seconds": min(own),
        "generator_seconds": min(package),
        "ratio": min(package) / min(own),
    }


def _own_seconds(tool: Sam2Segmenter, pictures: Sequence[Image]) -> float:
    return _seconds(lambda picture: tool.segment([picture]), pictures)


def _seconds(run: Callable[[Image], Any], pictures: Sequence[Image]) -> float:
    start = time.perf_counter()
    for picture in pictures:
        run(picture)
    return (time.perf_counter() - start) / len(pictures)


def _generator(model: Any, config: Sam2Config, points_per_batch: int) -> Any:
    from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

    return SAM2AutomaticMaskGenerator(
        model,
        points_per_side=config.points_per_side,
        points_per_batch=points_per_batch,
        pred_iou_thresh=config.min_score,
        stability_score_thresh=config.min_stability,
        stability_score_offset=config.stability_offset,
        box_nms_thresh=config.duplicate_iou,
    )


def _thresholds(model: Any, picture: Image) -> tuple[float, float]:
    """The median score, and the upper quartile of the stability above it."""
    config = Sam2Config(
        size="tiny",
        points_per_side=4,
        prompting="grid",
        min_score=0,
        min_stability=0,
        min_area=0,
        max_area=1,
        duplicate_iou=1,
        stability_offset=_OFFSET,
        precision="fp32",
    )
    found = Sam2Segmenter(model, config, max_candidates=255, frame=256).segment([picture])[0]
    min_score = float(np.median(found.score))
    stable = found.stability[found.score >= min_score]
    return min_score, float(np.quantile(stable, 0.75))


def _blobs(index: int) -> Image:
    """Smooth noise, ``(640, 640, 3) uint8``: shapes of all sizes and nothing to recognise."""
    from scipy.ndimage import gaussian_filter

    noise = generator("bench", "sam2", index).normal(size=(_SIDE, _SIDE))
    smooth = gaussian_filter(noise, 12)
    grey = 255 * (smooth - smooth.min()) / np.ptp(smooth)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
