"""What every image encoder does alike: from uint8 pictures to embeddings."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.devices import autocast
from medfocus_pipeline.encoders.pooling import cell_means
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.types import Encoded, FloatArray, Image, Mask, Precision

if TYPE_CHECKING:
    import torch

    Forward: TypeAlias = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]
    """``(n, 3, s, s) float32`` -> pooled ``(n, d)`` and tokens ``(n, gh * gw, d)``."""


_CPU_PICTURES = 4


@dataclass(frozen=True, slots=True)
class ImageTower:
    """An `Encoder` made of a model's own preprocessing and its forward pass.

    Attributes:
        resize_and_crop: ``(h, w, 3) uint8`` -> ``(s, s, 3) uint8``, the model's own.
        mask_channels: 1 if it does the same to a picture of one channel, else 3.
        forward: normalised pixels -> pooled features and tokens.
        mean: ``(3,) float32`` on the model's device, in grey levels 0 .. 255.
        std: ``(3,) float32``, likewise.
        precision: of the forward pass.
        batch_size: see `Encoder`.
        dim: see `Encoder`.
        token_grid: see `Encoder`.
        token_extent: side of the square, from the top left corner of the picture, that the
            tokens cover, in pixels.
    """

    resize_and_crop: Callable[[Image], Image]
    mask_channels: int
    forward: "Forward"
    mean: "torch.Tensor"
    std: "torch.Tensor"
    precision: Precision
    batch_size: int
    dim: int
    token_grid: tuple[int, int] | None
    token_extent: int

    def prepare(self, image: Image) -> Image:
        """The picture that the model sees, ``(s, s, 3) uint8``."""
        return self.resize_and_crop(image)

    def prepare_mask(self, mask: Mask) -> FloatArray:
        """``(gh, gw) float32`` in [0, 1], cover of each token.

        Raises:
            ConfigError: the model has no token grid.
        """
        if self.token_grid is None:
            raise ConfigError(
                "This encoder has no token grid, so it cannot weigh its features by a mask; "
                "leave out roi_pooled or choose another encoder."
            )
        painted = np.repeat(np.uint8(255) * mask[:, :, None], self.mask_channels, axis=2)
        cover = self.resize_and_crop(painted)[: self.token_extent, : self.token_extent, 0]
        return cell_means(cover.astype(np.float32) / np.float32(255), self.token_grid)

    def encode(self, pictures: NDArray[Any]) -> Encoded:
        """Embeddings of prepared pictures, ``(n, s, s, 3) uint8``.

        On a CPU they go through the model four by four, which is as fast, and makes the answers
        the same to the last bit however many come together.
        """
        if self.mean.device.type != "cpu":
            return self._forward(pictures)
        parts = []
        for start in range(0, len(pictures), _CPU_PICTURES):
            part = pictures[start : start + _CPU_PICTURES]
            filled = np.concatenate([part, np.repeat(part[-1:], _CPU_PICTURES - len(part), axis=0)])
            found = self._forward(filled)
            tokens = None if found.tokens is None else found.tokens[: len(part)]
            parts.append(Encoded(found.pooled[: len(part)], tokens))
        every = [part.tokens for part in parts if part.tokens is not None]
        pooled = np.concatenate([part.pooled for part in parts])
        return Encoded(pooled, np.concatenate(every) if every else None)

    def _forward(self, pictures: NDArray[Any]) -> Encoded:
        import torch

        writable = np.require(pictures, np.uint8, ["C", "W"])  # torch warns of anything else
        pixels = torch.from_numpy(writable).to(self.mean.device)
        with torch.inference_mode(), autocast(self.mean.device.type, self.precision):
            # (n, s, s, 3) seen as (n, 3, s, s) is the channels-last layout, the faster one.
            pooled, tokens = self.forward(((pixels - self.mean) / self.std).permute(0, 3, 1, 2))
        return Encoded(_array(pooled), None if tokens is None else _array(tokens))


@dataclass(frozen=True, slots=True)
class DualTower(ImageTower):
    """An `ImageTower` and a text tower: both `Encoder` and `TextEncoder`.

    Attributes:
        temperature: 1 / exp(logit_scale).
        text_features: texts -> ``(n, d)`` features on the device.
    """

    temperature: float
    text_features: Callable[[list[str]], "torch.Tensor"]

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """``(n, d) float32``, the text tower's projected features, not normalised."""
        import torch

        with torch.inference_mode(), autocast(self.mean.device.type, self.precision):
            return _array(self.text_features(list(texts)))


@dataclass(frozen=True, slots=True)
class Shapes:
    """What a forward pass of one picture gave.

    Attributes:
        side: s, of the prepared picture.
        dim: d, of the pooled feature.
        tokens: number of tokens; None without tokens.
    """

    side: int
    dim: int
    tokens: int | None


def dry_run(
    resize_and_crop: Callable[[Image], Image],
    forward: "Forward",
    *,
    mean: "torch.Tensor",
) -> Shapes:
    """Send one grey picture through a model.

    Raises:
        ValueError: the preprocessing does not end in a square of one size, or the forward
            pass does not take it.
    """
    import torch

    wide, tall = (resize_and_crop(np.zeros(size, np.uint8)) for size in ((48, 64, 3), (64, 48, 3)))
    side = len(wide)
    if wide.shape != tall.shape or wide.shape != (side, side, 3):
        raise ValueError(f"its preprocessing makes {wide.shape} and {tall.shape}, not one square")
    with torch.inference_mode():
        pooled, tokens = forward(torch.zeros(1, 3, side, side, device=mean.device))
    return Shapes(side, pooled.shape[1], None if tokens is None else tokens.shape[1])


def square_grid(cells: int) -> tuple[int, int] | None:
    """``(g, g)`` with as many cells; None if there is no such square."""
    side = math.isqrt(cells)
    return (side, side) if side * side == cells else None


def _array(tensor: "torch.Tensor") -> FloatArray:
    array: FloatArray = tensor.float().cpu().numpy()
    return array
