"""The network of an image encoder: its preprocessing, its forward pass and its sizes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from medfocus_pipeline.config import Runtime
from medfocus_pipeline.devices import resolve_device
from medfocus_pipeline.encoders.pooling import level_width, square_grid
from medfocus_pipeline.types import Image, Precision

if TYPE_CHECKING:
    import torch

    Forward: TypeAlias = Callable[[torch.Tensor], "Maps"]
    """Of normalised pixels, ``(n, 3, s, s) float32``."""

_BATCH_SIZES = {"cpu": 16, "mps": 32, "cuda": 128}
"""Pictures of 224 pixels a call that suit a transformer of 86 million parameters."""


class Maps(NamedTuple):
    """What one forward pass gives, on the model's device.

    Attributes:
        pooled: ``(n, d)``.
        tokens: ``(n, gh * gw, d)`` in the space of `pooled`; None without any.
        levels: ``(n, gh, gw, c)`` of each of `pooling.level_indices`, early to late.
    """

    pooled: "torch.Tensor"
    tokens: "torch.Tensor | None"
    levels: "tuple[torch.Tensor, ...]" = ()


@dataclass(frozen=True, slots=True)
class ImageModel:
    """A model's own preprocessing and its forward pass on its device, see `image_model`.

    Attributes:
        resize_and_crop: ``(h, w, 3) uint8`` -> ``(s, s, 3) uint8``, the model's own.
        forward: normalised pixels -> `Maps`.
        network: the module that `forward` runs, with no parameter that it does not; what
            fine-tuning changes.
        mean: ``(3,) float32`` on the model's device, in grey levels 0 .. 255.
        std: ``(3,) float32``, likewise.
        precision: of the forward pass.
        batch_size: see `Encoder`.
        side: s, of the prepared picture.
        dim: d, of the pooled feature.
        level_dims: of the levels, see `LevelEncoder`.
        token_grid: see `Encoder`; the tokens are those of a square.
        token_extent: side of the square, from the top left corner of the picture, that the
            tokens (and levels) cover, in pixels.
        at_once: pictures of a forward pass on a CPU, always as many, which makes the answers the
            same to the last bit however many come together. One by one would take longer; more
            than four take as long and more memory.
    """

    resize_and_crop: Callable[[Image], Image]
    forward: "Forward"
    network: "torch.nn.Module"
    mean: "torch.Tensor"
    std: "torch.Tensor"
    precision: Precision
    batch_size: int
    side: int
    dim: int
    level_dims: tuple[int, ...]
    token_grid: tuple[int, int] | None
    token_extent: int
    at_once: int = 4


def image_model(
    resize_and_crop: Callable[[Image], Image],
    normalisation: "tuple[torch.Tensor, torch.Tensor]",
    forward: "Forward",
    network: "torch.nn.Module",
    *,
    precision: Precision,
    runtime: Runtime,
    batch_sizes: Mapping[str, int] = _BATCH_SIZES,
    patch: int = 1,
) -> ImageModel:
    """A model on the device of `runtime` with what it gives, for which it sees a grey picture.

    Args:
        normalisation: mean and standard deviation in grey levels, ``(3,) float32`` each; whatever
            is not named here is as of `ImageModel`.
        batch_sizes: device -> pictures a call.
        patch: side of a token's cell, in pixels: what is left over at the end is in none.

    Raises:
        ConfigError: the device is not there.
        ValueError: the preprocessing does not end in a square of one size, or the forward
            pass does not take it.
    """
    import torch

    device = resolve_device(runtime.device)
    mean, std = (values.to(device) for values in normalisation)
    wide, tall = (resize_and_crop(np.zeros(size, np.uint8)) for size in ((48, 64, 3), (64, 48, 3)))
    side = len(wide)
    if wide.shape != tall.shape or wide.shape != (side, side, 3):
        raise ValueError(f"its preprocessing makes {wide.shape} and {tall.shape}, not one square")
    with torch.inference_mode():
        found = forward(torch.zeros(1, 3, side, side, device=device))
    dim = found.pooled.shape[1]
    return ImageModel(
        resize_and_crop=resize_and_crop,
        forward=torch.compile(forward) if runtime.compile else forward,
        network=network,
        mean=mean,
        std=std,
        precision=precision,
        batch_size=batch_sizes[device],
        side=side,
        dim=dim,
        level_dims=tuple(min(level.shape[3], level_width(dim)) for level in found.levels),
        token_grid=None if found.tokens is None else square_grid(found.tokens.shape[1]),
        token_extent=side // patch * patch,
    )


def in_grey_levels(
    mean: Sequence[float], std: Sequence[float]
) -> "tuple[torch.Tensor, torch.Tensor]":
    """A normalisation of [0, 1] as `image_model` takes it."""
    import torch

    centre, spread = (torch.tensor(values, dtype=torch.float32) for values in (mean, std))
    return centre * 255, spread * 255
