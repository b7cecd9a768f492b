"""How wrong an adapted SAM's masks are: to learn from, and to report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medfocus_pipeline.masks.roi import iou
from medfocus_pipeline.sam.sam_model import image_size
from medfocus_pipeline.sam.sam_pixels import normalised
from medfocus_pipeline.segmenters.sam_adapter_layers import AdaptedSam
from medfocus_pipeline.training.sam_adapter_data import Example

if TYPE_CHECKING:
    from torch import Tensor


def losses(sam: AdaptedSam, pixels: "Tensor", targets: "Tensor") -> "dict[str, Tensor]":
    """What is wrong with one batch's masks, each a mean.

    The paper's are cross-entropy and the overlap's, ``1 - |p t| / |p + t - p t|`` of the mask's
    probabilities p and the truth t. Ours in addition: the squared error of the predicted IoU,
    by which the candidate is judged.

    Args:
        sam: the model.
        pixels: ``(n, 3, s, s)``.
        targets: ``(n, m, m)`` in [0, 1].

    Returns:
        ``entropy``, ``overlap``, ``score``, and ``iou``, which is no loss but the mean IoU.
    """
    import torch
    from torch.nn import functional

    logits, scores = sam.answer(pixels)
    chance = logits.sigmoid()
    shared = (chance * targets).sum((1, 2))
    union = (chance + targets - chance * targets).sum((1, 2))
    with torch.no_grad():
        found, true = logits > 0, targets >= 0.5
        hit = (found & true).sum((1, 2)) / (found | true).sum((1, 2)).clamp(min=1)
    return {
        "entropy": functional.binary_cross_entropy_with_logits(logits, targets),
        "overlap": (1 - (shared + 1) / (union + 1)).mean(),
        "score": (scores - hit).square().mean(),
        "iou": hit.mean(),
    }


def mean_iou(sam: AdaptedSam, examples: Sequence[Example]) -> float:
    """Mean IoU of the masks with the outlines, at the images' own sizes.

    Raises:
        ImageError: an image cannot be read any more.
    """
    import torch
    from torch.nn import functional

    side, device = image_size(sam.model), sam.model.device.type
    found = []
    for example in examples:
        image, mask = example.read()
        with torch.inference_mode():
            logits, _ = sam.answer(normalised([image], side=side, device=device))
            large = functional.interpolate(logits[None], size=mask.shape, mode="bilinear")
        found.append(iou((large[0, 0] > 0).cpu().numpy(), mask))
    return float(np.mean(found))
