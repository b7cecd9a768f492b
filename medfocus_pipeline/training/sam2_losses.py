"""One step's prompts on a batch of phantoms, and how wrong SAM 2's answers to them are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.training import sam2_prompts
from medfocus_pipeline.training.feature_cache import FeatureCache
from medfocus_pipeline.training.feature_styles import unsettled

if TYPE_CHECKING:
    from torch import Generator, Tensor

_CLICKS = 3
"""Prompts of one click in an image; one on no part at all and one box follow."""

_BOX_WEIGHT = 2.0
"""Of the one box an image, where each click counts 1: it must hold where features tell little."""

_CORRECTIONS = 1 / 4
"""Share of the steps with one prompt an image more, a click inside and one outside."""

_LEAST_FREE = 20
"""Cells of no part without which no click is known to be on no part."""

_SCORE_WEIGHT = 2.0
_BACKGROUND_WEIGHT = 0.5
_SINGLE_WEIGHT = 0.4
"""Of the mask meant for several points, where the prompt is one point."""

_ALL_MASKS = 0.05
"""Share of the loss that falls on all three masks, not on the best: none stays unused."""


@dataclass(frozen=True, slots=True)
class Batch:
    """b phantoms with the parts that are asked for.

    Attributes:
        levels: feature maps of the trunk, fine to coarse.
        targets: ``(b, p, m, m) float32`` in [0, 1], the share of each cell that the part covers;
            zero where a phantom has no parts at all.
        background: ``(b, m, m) bool``, cells of no part.
    """

    levels: "list[Tensor]"
    targets: "Tensor"
    background: "Tensor"


@dataclass(frozen=True, slots=True)
class Losses:
    """Of one step.

    Attributes:
        total: what is minimised.
        figures: name -> mean over the prompts it is about; see `sam2_run.COLUMNS`.
    """

    total: "Tensor"
    figures: dict[str, float]


def draw_batch(cache: FeatureCache, size: int, side: int, rng: np.random.Generator) -> Batch:
    """Phantoms and parts at random, their features unsettled.

    Args:
        size: b.
        side: m, cells across the model's masks.
    """
    import torch
    from torch.nn import functional

    rows = rng.choice(len(cache), size, replace=len(cache) < size)
    wanted = _CLICKS + 2
    chosen, free = [], []
    for row in rows:
        parts = cache.parts(int(row))
        free.append(~parts.any(axis=0))
        if len(parts) == 0:
            parts = np.zeros((1, *parts.shape[1:]), dtype=np.bool_)
        rounds = -(-wanted // len(parts))
        order = np.concatenate([rng.permutation(len(parts)) for _ in range(rounds)])
        chosen.append(parts[order[:wanted]])
    masks = torch.from_numpy(np.stack(chosen)).float()
    empty = torch.from_numpy(np.stack(free)).float()
    step = masks.shape[-1] // side
    return Batch(
        levels=unsettled(cache.levels(rows), rng),
        targets=functional.avg_pool2d(masks, step),
        background=functional.avg_pool2d(empty, step) >= 1,
    )


def losses(model: Any, batch: Batch, rng: "Generator") -> Losses:
    """Forward pass and losses of one step.

    Args:
        model: a `SAM2Base` whose trunk passes feature maps through.
    """
    import torch

    with torch.autocast("cpu", torch.bfloat16):
        levels = model.forward_image(batch.levels)["backbone_fpn"][-3:]
    levels[-1] = levels[-1] + model.no_mem_embed.view(1, -1, 1, 1)
    click = _click_losses(model, levels, batch, rng)
    box = _box_losses(model, levels, batch, rng)
    total, weight = _CLICKS * click.total + _BOX_WEIGHT * box.total, _CLICKS + _BOX_WEIGHT
    figures = click.figures | box.figures
    if float(torch.rand((), generator=rng)) < _CORRECTIONS:
        correction = _correction_losses(model, levels, batch, rng)
        total, weight = total + correction.total, weight + 1
        figures |= correction.figures
    return Losses(total / weight, figures)


def _click_losses(model: Any, levels: "list[Tensor]", batch: Batch, rng: "Generator") -> Losses:
    import torch

    size, _, side, _ = batch.targets.shape
    targets = batch.targets[:, :_CLICKS]
    inside = sam2_prompts.clicks((targets >= 0.5).flatten(0, 1), rng, deep=0.5).view(
        size, _CLICKS, 2
    )
    outside = sam2_prompts.clicks(batch.background, rng, deep=0)[:, None]
    points = torch.cat([inside, outside], dim=1).flatten(0, 1)[:, None]
    labels = torch.ones(points.shape[:2], dtype=torch.int)
    logits, scores = _answer(model, levels, points * (model.image_size / side), labels)

    logits = logits.view(size, -1, *logits.shape[1:])[:, :_CLICKS].flatten(0, 1)
    scores = scores.view(size, -1, scores.shape[-1])
    wrong, iou, there = _errors(logits, targets.flatten(0, 1))
    mask = _mean(_best(wrong[:, 1:]) + _SINGLE_WEIGHT * wrong[:, 0], there)
    score = (scores[:, :_CLICKS].flatten(0, 1) - iou).square().mean()
    free = batch.background.flatten(1).sum(dim=1) > _LEAST_FREE
    background = _mean(scores[:, _CLICKS:].square().mean(dim=(1, 2)), free)
    total = mask + _SCORE_WEIGHT * (score + _BACKGROUND_WEIGHT * background)
    chosen = scores[:, :_CLICKS].flatten(0, 1)[:, 1:].argmax(dim=1, keepdim=True)
    figures = {
        "mask": mask,
        "score": score,
        "click": _mean(iou[:, 1:].gather(1, chosen)[:, 0], there),
        "click_oracle": _mean(iou[:, 1:].amax(dim=1), there),
    }
    return Losses(total, {name: float(value.detach()) for name, value in figures.items()})


def _box_losses(model: Any, levels: "list[Tensor]", batch: Batch, rng: "Generator") -> Losses:
    targets = batch.targets[:, _CLICKS]
    corners = sam2_prompts.boxes(targets >= 0.5, rng, jitter=0.04).view(-1, 2, 2)
    return _whole_losses(model, levels, targets, corners, name="box", labels=(2, 3))


def _correction_losses(
    model: Any, levels: "list[Tensor]", batch: Batch, rng: "Generator"
) -> Losses:
    import torch

    targets = batch.targets[:, -1]
    masks = targets >= 0.5
    inside, outside = sam2_prompts.clicks(masks, rng, deep=0.5), sam2_prompts.misses(masks, rng)
    points = torch.stack([inside, outside], dim=1)
    return _whole_losses(model, levels, targets, points, name="correction", labels=(1, 0))


def _whole_losses(
    model: Any,
    levels: "list[Tensor]",
    targets: "Tensor",
    points: "Tensor",
    *,
    name: str,
    labels: tuple[int, int],
) -> Losses:
    """Of prompts of two points, ``(b, 2, 2)`` in cells, which leave no doubt what is meant."""
    import torch

    kinds = torch.tensor([labels], dtype=torch.int).expand(len(points), -1)
    scale = model.image_size / targets.shape[-1]
    logits, scores = _answer(model, levels, points * scale, kinds)
    wrong, iou, there = _errors(logits, targets)
    mask = _mean(wrong[:, 0] + 0.5 * _best(wrong[:, 1:]), there)
    total = mask + _SCORE_WEIGHT * (scores - iou).square().mean()
    return Losses(total, {name: float(_mean(iou[:, 0], there))})


def _answer(
    model: Any, levels: "list[Tensor]", points: "Tensor", labels: "Tensor"
) -> "tuple[Tensor, Tensor]":
    """Logits ``(q, 4, m, m)`` and predicted IoU ``(q, 4)``, both float32, of q / b prompts each.

    Args:
        levels: of b images.
        points: ``(q, t, 2)`` in pixels, the image spans [0, s]; q is a multiple of b.
        labels: ``(q, t) int32``.
    """
    import torch

    encoder = model.sam_prompt_encoder
    # The prompt encoder counts from the centre of the first pixel.
    sparse, dense = encoder((points - 0.5, labels), boxes=None, masks=None)
    fine, middle, coarse = (x.repeat_interleave(len(points) // len(x), dim=0) for x in levels)
    with torch.autocast("cpu", torch.bfloat16):
        logits, scores, _, _ = model.sam_mask_decoder.predict_masks(
            coarse, encoder.get_dense_pe(), sparse, dense, False, [fine, middle]
        )
    return logits.float(), scores.float()


def _errors(logits: "Tensor", targets: "Tensor") -> "tuple[Tensor, Tensor, Tensor]":
    """Loss and IoU of each mask, ``(q, 4)`` both, and ``(q,) bool``, whether there is a target.

    The loss is twice the cross-entropy plus the Dice loss, 1 - 2 |a b| / (|a| + |b|).

    Args:
        logits: ``(q, 4, m, m)``.
        targets: ``(q, m, m)`` in [0, 1].
    """
    import torch
    from torch.nn import functional

    targets = targets[:, None].expand_as(logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    chance = logits.sigmoid()
    shared, both = (chance * targets).sum((2, 3)), (chance + targets).sum((2, 3))
    wrong: Tensor = 2 * entropy.mean((2, 3)) + 1 - (2 * shared + 1) / (both + 1)
    with torch.no_grad():
        found, true = logits > 0, targets >= 0.5
        union = (found | true).sum((2, 3)).clamp(min=1)
        iou = (found & true).sum((2, 3)) / union
    return wrong, iou, true[:, 0].any(2).any(1)


def _mean(values: "Tensor", there: "Tensor") -> "Tensor":
    """Mean of those ``(q,)`` that there is a target for; 0 where there is none at all."""
    return (values * there).sum() / there.sum().clamp(min=1)


def _best(wrong: "Tensor") -> "Tensor":
    """The least loss of each prompt's masks, ``(q,)``, with a small share of the others'."""
    return (1 - _ALL_MASKS) * wrong.amin(dim=1) + _ALL_MASKS * wrong.mean(dim=1)
