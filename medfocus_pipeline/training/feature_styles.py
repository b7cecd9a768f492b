"""Cached features made less sure, so that what is learned from drawings holds on real images.

The trunk's features of a real image differ from those of a drawing: in their style, and in how
much they tell. Training sees both kinds of change.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_STYLED = 0.5
"""Share of the steps whose images take on other images' style."""

_CONCENTRATION = 0.3
"""Of the symmetric Beta that says how much of the own style stays: near all or near nothing."""

_VEILED = 1 / 3
"""Share of the images that another image shines through."""

_VEIL = 0.6
"""The greatest weight of that other image."""


def unsettled(levels: "list[Tensor]", rng: np.random.Generator) -> "list[Tensor]":
    """Feature maps with styles mixed and some images veiled.

    Args:
        levels: ``(b, c, h, w) float32`` each, fine to coarse.
        rng: of the step.

    Returns:
        New maps of the same shapes. With a single image nothing changes.
    """
    import torch

    count = len(levels[0])
    order = torch.from_numpy(rng.permutation(count))
    kept = np.where(rng.random() < _STYLED, rng.beta(_CONCENTRATION, _CONCENTRATION, count), 1.0)
    veil = rng.uniform(0, _VEIL, count) * (rng.random(count) < _VEILED)
    own, foreign = (
        torch.from_numpy(share.astype(np.float32)).view(-1, 1, 1, 1) for share in (kept, veil)
    )
    styled = [_styled(level, order, own) for level in levels]
    return [torch.lerp(level, level[order.roll(1)], foreign) for level in styled]


def _styled(level: "Tensor", order: "Tensor", own: "Tensor") -> "Tensor":
    """MixStyle (Zhou et al., 2021): each channel's mean and deviation become mixtures."""
    import torch

    deviation, mean = torch.std_mean(level, dim=(2, 3), keepdim=True)
    deviation = deviation + 1e-4  # of a channel that is flat
    wanted_mean = torch.lerp(mean[order], mean, own)
    wanted_deviation = torch.lerp(deviation[order], deviation, own)
    return (level - mean) / deviation * wanted_deviation + wanted_mean
