"""How well a SAM 2 outlines what it is pointed at: IoU with true masks."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.masks.roi import iou
from medfocus_pipeline.segmenters.sam2_pixels import normalised
from medfocus_pipeline.types import Image, Mask

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class RegionScores:
    """IoU with one true mask, in [0, 1], at the image's own size.

    Attributes:
        click: of one click's three masks, the one that the model itself thinks best.
        oracle: the one of the three that is best.
        box: the single mask of the true mask's box.
        predicted: what the model thinks of the first.
        grid: the best of all masks of a grid of clicks; NaN where no grid was asked for.
    """

    click: float
    oracle: float
    box: float
    predicted: float
    grid: float


def region_scores(
    model: Any, image: Image, target: Mask, *, centroid: bool, grid: int = 0
) -> RegionScores:
    """Prompts a model with a true mask's click and box.

    Args:
        model: a `SAM2Base` in evaluation mode, from `segmenters.sam2.load_model`.
        image: of any size.
        target: ``(h, w) bool``, not empty.
        centroid: click at the mask's centroid, as a user would; else at its innermost point.
        grid: clicks along each side of a grid over the image; 0 is none.
    """
    import torch

    height, width = target.shape
    scale = model.image_size / np.array([width, height])
    with torch.inference_mode():
        levels = _encode(model, image)
        point = (_centroid(target) if centroid else _innermost(target)) * scale
        logits, scores = _answer(model, levels, point[None, None], [1])
        corners = (_box(target).reshape(2, 2) * scale)[None]
        single, _ = _answer(model, levels, corners, [2, 3])
        best = int(scores[0, 1:].argmax())
        three = [iou(mask, target) for mask in _masks(logits[0, 1:], target.shape)]
        return RegionScores(
            click=three[best],
            oracle=max(three),
            box=iou(_masks(single[0, :1], target.shape)[0], target),
            predicted=float(scores[0, 1 + best]),
            grid=_best_of_grid(model, levels, target, grid) if grid else float("nan"),
        )


def mean_scores(scores: Iterable[RegionScores]) -> Mapping[str, float]:
    """Mean over images, figure by figure; empty without images."""
    rows = [asdict(each) for each in scores]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else {}


def _encode(model: Any, image: Image) -> "list[Tensor]":
    pixels = normalised([image], side=model.image_size, device=model.device.type)
    levels: list[Tensor] = model.forward_image(pixels)["backbone_fpn"][-3:]
    if model.directly_add_no_mem_embed:
        levels[-1] = levels[-1] + model.no_mem_embed.view(1, -1, 1, 1)
    return levels


def _answer(
    model: Any, levels: "list[Tensor]", points: np.ndarray, labels: list[int]
) -> "tuple[Tensor, Tensor]":
    """Logits ``(q, 4, m, m)`` and predicted IoU ``(q, 4)`` of prompts ``(q, t, 2)``, XY."""
    import torch

    # The prompt encoder counts from the centre of the first pixel.
    xy = torch.tensor(points - 0.5, dtype=torch.float32, device=model.device)
    label = torch.tensor([labels], dtype=torch.int, device=model.device).expand(len(xy), -1)
    encoder = model.sam_prompt_encoder
    sparse, dense = encoder((xy, label), boxes=None, masks=None)
    fine, middle, coarse = (level.expand(len(xy), -1, -1, -1) for level in levels)
    logits, scores, _, _ = model.sam_mask_decoder.predict_masks(
        coarse, encoder.get_dense_pe(), sparse, dense, False, [fine, middle]
    )
    return logits, scores


def _best_of_grid(model: Any, levels: "list[Tensor]", target: Mask, side: int) -> float:
    line = (np.arange(side) + 0.5) / side * model.image_size
    best = 0.0
    for y in line:
        points = np.stack([line, np.full(side, y)], axis=1)[:, None]
        logits, _ = _answer(model, levels, points, [1])
        for mask in _masks(logits[:, 1:].flatten(0, 1), target.shape):
            best = max(best, iou(mask, target))
    return best


def _masks(logits: "Tensor", size: tuple[int, ...]) -> np.ndarray:
    """``(k, h, w) bool``, of logits ``(k, m, m)``."""
    from torch.nn import functional

    large = functional.interpolate(logits[:, None], size=size, mode="bilinear")[:, 0]
    masks: np.ndarray = (large > 0).cpu().numpy()
    return masks


def _centroid(mask: Mask) -> np.ndarray:
    """XY in pixels, the image spans [0, w] and [0, h]; it may lie outside the mask."""
    y, x = np.nonzero(mask)
    return np.array([x.mean() + 0.5, y.mean() + 0.5])


def _innermost(mask: Mask) -> np.ndarray:
    """XY in pixels of the point that is farthest from the outline."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return np.array([x + 0.5, y + 0.5])


def _box(mask: Mask) -> np.ndarray:
    """XYXY in pixels, x1 and y1 exclusive."""
    y, x = np.nonzero(mask)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], dtype=float)
