"""Prompts drawn from true masks: clicks inside and outside, jittered boxes.

Masks are ``(q, m, m) bool`` on a grid of m x m cells, points ``(q, 2) float32`` XY in cells,
continuous: the grid spans [0, m].
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor

_DEPTH = 9
"""Cells across the neighbourhood that says how deep inside a mask a cell lies."""


def clicks(masks: "Tensor", rng: "Generator", *, deep: float) -> "Tensor":
    """A point inside each mask; anywhere at all where a mask is empty.

    Args:
        deep: share of the clicks that seek the inside; the others fall anywhere in the mask.
    """
    import torch
    from torch.nn import functional

    weight = masks.float()
    around = functional.avg_pool2d(weight[:, None], _DEPTH, stride=1, padding=_DEPTH // 2)[:, 0]
    seek = torch.rand(len(masks), 1, 1, generator=rng) < deep
    weight = (weight * torch.where(seek, around**8, 1.0)).flatten(1)
    weight = weight + (weight.sum(dim=1, keepdim=True) == 0)
    cell = torch.multinomial(weight, 1, generator=rng)[:, 0]
    side = masks.shape[-1]
    corner = torch.stack([cell % side, cell // side], dim=1)
    return corner + torch.rand(len(masks), 2, generator=rng)


def misses(masks: "Tensor", rng: "Generator") -> "Tensor":
    """A point just outside each mask, where a user would correct it."""
    from torch.nn import functional

    wide = functional.max_pool2d(masks[:, None].float(), 15, stride=1, padding=7)[:, 0] > 0
    return clicks(wide & ~masks, rng, deep=0)


def boxes(masks: "Tensor", rng: "Generator", *, jitter: float) -> "Tensor":
    """``(q, 4) float32``, XYXY in cells: the box around each mask, drawn by an unsteady hand.

    Args:
        jitter: standard deviation of each side's place, in widths or heights of the box. A
            quarter of the boxes is exact.
    """
    import torch

    cells = torch.arange(masks.shape[-1])
    edges = []
    for axis in (1, 2):
        line = masks.any(dim=axis)
        low = torch.where(line, cells, masks.shape[-1]).amin(dim=1)
        edges.append((low, torch.where(line, cells + 1, 0).amax(dim=1)))
    (x0, x1), (y0, y1) = edges
    box = torch.stack([x0, y0, x1, y1], dim=1).float()
    extent = (box[:, 2:] - box[:, :2]).clamp(min=1).repeat(1, 2)
    sway = jitter * (torch.rand(len(masks), 1, generator=rng) > 0.25)
    return (box + sway * extent * torch.randn(box.shape, generator=rng)).clamp(0, masks.shape[-1])
