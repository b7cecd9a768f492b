"""How well a SAM 2 outlines what it is pointed at: IoU with true masks."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count as numbers
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.datasets.phantoms.phantom import draw
from medfocus_pipeline.masks.roi import iou
from medfocus_pipeline.sam.sam_pixels import normalised
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import Image, Mask

if TYPE_CHECKING:
    from torch import Tensor

HELD_OUT = 1000
"""Seed of the phantoms to measure with: sam2-lite learned from those of seed 0."""

_LEAST_AREA = 0.002
"""Share of an image below which an outline is too small to be a candidate."""


@dataclass(frozen=True, slots=True)
class RegionScores:
    """IoU with one true mask, in [0, 1], at the image's own size.

    Attributes:
        click: of one click's three masks, the one that the model itself thinks best.
        predicted: what the model thinks of it.
        oracle: the one of the three that is best.
        box: the single mask of the true mask's box.
        grid: the best of all masks of a grid of clicks; NaN where no grid was asked for.
    """

    click: float
    predicted: float
    oracle: float
    box: float
    grid: float


def phantom_regions(kind: str, count: int, *, seed: int = HELD_OUT) -> Iterator[tuple[Image, Mask]]:
    """Images with one true mask each: an outline at random of each phantom that has one.

    Args:
        kind: of the phantoms, see `phantom.draw`.
        count: how many.
        seed: of the phantoms.
    """
    found = 0
    for index in numbers():
        if found == count:
            return
        phantom = draw(kind, seed, index)
        large = phantom.parts[phantom.parts.mean(axis=(1, 2)) >= _LEAST_AREA]
        if len(large):
            found += 1
            yield phantom.image, generator("region", kind, seed, index).choice(large)


def region_scores(
    model: Any,
    image: Image,
    target: Mask,
    *,
    centroid: bool = False,
    grid: int = 0,
    bicubic: bool = False,
) -> RegionScores:
    """Prompts a model with a true mask's click and box.

    Args:
        model: a `SAM2Base` in evaluation mode, from `sam.sam2.load_model`.
        image: of any size.
        target: ``(h, w) bool``, not empty.
        centroid: click at the mask's centroid, as a user would; else at its innermost point.
        grid: clicks along each side of a grid over the image; 0 is none.
        bicubic: as for `sam_pixels.normalised`.
    """
    import torch

    height, width = target.shape
    scale = model.image_size / np.array([width, height])
    with torch.inference_mode():
        levels = _encode(model, image, bicubic=bicubic)
        click = (_centroid(target) if centroid else _innermost(target)) * scale
        logits, predicted = _answer(model, levels, click[None, None], [1])
        three = [iou(mask, target) for mask in _masks(logits[0, 1:], target)]
        chosen = int(predicted[0, 1:].argmax())
        corners = _box(target).reshape(1, 2, 2) * scale
        logits, _ = _answer(model, levels, corners, [2, 3])
        return RegionScores(
            click=three[chosen],
            predicted=float(predicted[0, 1 + chosen]),
            oracle=max(three),
            box=iou(_masks(logits[0, :1], target)[0], target),
            grid=_best_of_grid(model, levels, target, grid) if grid else float("nan"),
        )


def mean_scores(scores: Iterable[RegionScores]) -> Mapping[str, float]:
    """Mean over regions, figure by figure; empty without regions."""
    rows = [asdict(each) for each in scores]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]} if rows else {}


def _encode(model: Any, image: Image, *, bicubic: bool) -> "list[Tensor]":
    """Feature maps, fine to coarse, ``(1, c', g', g')`` each."""
    side, device = model.image_size, model.device.type
    pixels = normalised([image], side=side, device=device, bicubic=bicubic)
    levels: list[Tensor] = model.forward_image(pixels)["backbone_fpn"][-3:]
    if model.directly_add_no_mem_embed:
        levels[-1] = levels[-1] + model.no_mem_embed.view(1, -1, 1, 1)
    return levels


def _answer(
    model: Any, levels: "list[Tensor]", points: NDArray[np.float64], labels: list[int]
) -> "tuple[Tensor, Tensor]":
    """Logits ``(q, 4, m, m)`` and predicted IoU ``(q, 4)`` of prompts ``(q, t, 2)``, XY.

    The first mask is for prompts of several points; a single one means one of the other three.
    """
    import torch

    # The prompt encoder counts from the centre of the first pixel.
    xy = torch.tensor(points - 0.5, dtype=torch.float32, device=model.device)
    label = torch.tensor([labels], dtype=torch.int, device=model.device).expand(len(xy), -1)
    encoder = model.sam_prompt_encoder
    sparse, dense = encoder((xy, label), boxes=None, masks=None)
    fine, middle, coarse = (level.expand(len(xy), -1, -1, -1) for level in levels)
    logits, predicted, _, _ = model.sam_mask_decoder.predict_masks(
        coarse, encoder.get_dense_pe(), sparse, dense, False, [fine, middle]
    )
    return logits, predicted


def _best_of_grid(model: Any, levels: "list[Tensor]", target: Mask, side: int) -> float:
    line = (np.arange(side) + 0.5) / side * model.image_size
    best = 0.0
    for y in line:
        points = np.stack([line, np.full(side, y)], axis=1)[:, None]
        logits, _ = _answer(model, levels, points, [1])
        best = max(best, *(iou(mask, target) for mask in _masks(logits[:, 1:], target)))
    return best


def _masks(logits: "Tensor", target: Mask) -> NDArray[np.bool_]:
    """``(k, h, w) bool`` of the target's size, of k masks' logits ``(..., m, m)``."""
    from torch.nn import functional

    small = logits.reshape(-1, 1, *logits.shape[-2:])
    large = functional.interpolate(small, size=target.shape, mode="bilinear")[:, 0]
    masks: NDArray[np.bool_] = (large > 0).cpu().numpy()
    return masks


def _centroid(mask: Mask) -> NDArray[np.float64]:
    """XY in pixels, the image spans [0, w] and [0, h]; it may lie outside the mask."""
    y, x = np.nonzero(mask)
    return np.array([x.mean() + 0.5, y.mean() + 0.5])


def _innermost(mask: Mask) -> NDArray[np.float64]:
    """XY in pixels of the point that is farthest from the outline."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return np.array([x + 0.5, y + 0.5])


def _box(mask: Mask) -> NDArray[np.float64]:
    """XYXY in pixels, x1 and y1 exclusive."""
    y, x = np.nonzero(mask)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], dtype=np.float64)
