"""What every image encoder does alike: from uint8 pictures to embeddings."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.devices import autocast
from medfocus_pipeline.encoders.pooling import level_width, narrowed, pool_map
from medfocus_pipeline.types import Encoded, FloatArray, Image, Precision

if TYPE_CHECKING:
    import torch

    Forward: TypeAlias = Callable[[torch.Tensor], "Maps"]
    """Of normalised pixels, ``(n, 3, s, s) float32``."""

    Read: TypeAlias = Callable[["Maps", torch.Tensor | None], dict[str, torch.Tensor]]
    """What is kept of a forward pass, by name; the tensor is the covers' ``(n, e, e) float32``."""


_CPU_PICTURES = 4
"""One by one would take longer; more at once take as long and more memory."""


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
class ImageTower:
    """An `Encoder` made of a model's own preprocessing and its forward pass.

    Attributes:
        resize_and_crop: ``(h, w, 3) uint8`` -> ``(s, s, 3) uint8``, the model's own.
        forward: normalised pixels -> `Maps`.
        mean: ``(3,) float32`` on the model's device, in grey levels 0 .. 255.
        std: ``(3,) float32``, likewise.
        precision: of the forward pass.
        batch_size: see `Encoder`.
        shapes: what a forward pass gives.
        token_extent: side of the square, from the top left corner of the picture, that the
            tokens (and levels) cover, in pixels.
        at_once: pictures of a forward pass on a CPU, always as many, which makes the answers the
            same to the last bit however many come together.
        network: the module that `forward` runs, with no parameter that it does not; what
            fine-tuning changes. None of a model that cannot be trained.
    """

    resize_and_crop: Callable[[Image], Image]
    forward: "Forward"
    mean: "torch.Tensor"
    std: "torch.Tensor"
    precision: Precision
    batch_size: int
    shapes: "Shapes"
    token_extent: int
    at_once: int = field(default=_CPU_PICTURES, kw_only=True)
    network: "torch.nn.Module | None" = field(default=None, kw_only=True)

    @property
    def side(self) -> int:
        """See `Encoder`."""
        return self.shapes.side

    @property
    def dim(self) -> int:
        """See `Encoder`."""
        return self.shapes.dim

    @property
    def level_dims(self) -> tuple[int, ...]:
        """See `LevelEncoder`."""
        return self.shapes.level_dims

    @property
    def token_grid(self) -> tuple[int, int] | None:
        """See `Encoder`; the tokens are those of a square."""
        return None if self.shapes.tokens is None else square_grid(self.shapes.tokens)

    def prepare(self, image: Image) -> Image:
        """The picture that the model sees, ``(s, s, 3) uint8``."""
        return self.resize_and_crop(image)

    def encode(self, pictures: NDArray[Any]) -> Encoded:
        """Embeddings of prepared pictures, ``(n, s, s, 3) uint8``."""

        def read(found: Maps, _: "torch.Tensor | None") -> "dict[str, torch.Tensor]":
            tokens = {} if found.tokens is None else {"tokens": found.tokens}
            return {"pooled": found.pooled, **tokens}

        arrays = self._run(pictures, None, read)
        return Encoded(arrays["pooled"], arrays.get("tokens"))

    def pool(
        self, pictures: NDArray[Any], covers: NDArray[np.uint8] | None
    ) -> dict[str, FloatArray]:
        """See `LevelEncoder`."""
        return self._run(pictures, covers, self._pooled)

    def embed(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """The pooled feature ``(n, d) float32`` of ``(n, s, s, 3) uint8``, with gradients."""
        device = self.mean.device
        with autocast(device.type, self.precision):
            return self.forward(self._normalised(pixels.to(device))).pooled.float()

    def maps(self, pictures: NDArray[Any]) -> list[FloatArray]:
        """See `LevelEncoder`."""

        def read(found: Maps, _: "torch.Tensor | None") -> "dict[str, torch.Tensor]":
            width = level_width(self.dim)
            levels = (narrowed(level.float(), width) for level in found.levels)
            return {str(number): level for number, level in enumerate(levels)}

        return list(self._run(pictures, None, read).values())

    def _pooled(self, found: Maps, covers: "torch.Tensor | None") -> "dict[str, torch.Tensor]":
        import torch

        arrays, width = {"pooled": found.pooled}, level_width(self.dim)
        for prefix, weights in (("", None), ("roi_", covers)):
            if prefix and weights is None:
                continue
            if found.levels:
                means = [narrowed(pool_map(cells, weights), width) for cells in found.levels]
                units = [torch.nn.functional.normalize(mean, dim=1) for mean in means]
                arrays[f"{prefix}levels"] = torch.cat(units, dim=1)
            if weights is not None and found.tokens is not None and self.token_grid:
                tokens = found.tokens.reshape(len(weights), *self.token_grid, -1)
                arrays["roi_pooled"] = pool_map(tokens, weights)
        return arrays

    def _run(
        self,
        pictures: NDArray[Any],
        covers: NDArray[np.uint8] | None,
        read: "Read",
    ) -> dict[str, FloatArray]:
        """What is read of the forward passes over all pictures."""
        on_cpu = self.mean.device.type == "cpu"
        size = self.at_once if on_cpu else max(1, len(pictures))
        parts = []
        for start in range(0, len(pictures), size):
            part = slice(start, start + size)
            count = len(pictures[part])
            found = self._forward(
                _filled(pictures[part], size),
                None if covers is None else _filled(covers[part], size),
                read,
            )
            parts.append({name: rows[:count] for name, rows in found.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _forward(
        self,
        pictures: NDArray[Any],
        covers: NDArray[np.uint8] | None,
        read: "Read",
    ) -> dict[str, FloatArray]:
        import torch

        device = self.mean.device
        pixels = _tensor(pictures).to(device)
        weights = None
        if covers is not None:
            extent = self.token_extent
            weights = _tensor(covers).to(device)[:, :extent, :extent].float() / 255
        with torch.inference_mode():
            with autocast(device.type, self.precision):
                found = self.forward(self._normalised(pixels))
            return {name: _array(tensor) for name, tensor in read(found, weights).items()}

    def _normalised(self, pixels: "torch.Tensor") -> "torch.Tensor":
        # (n, s, s, 3) seen as (n, 3, s, s) is the channels-last layout, the faster one.
        return ((pixels - self.mean) / self.std).permute(0, 3, 1, 2)


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
        level_dims: of the levels, see `LevelEncoder`.
        tokens: number of tokens; None without tokens.
    """

    side: int
    dim: int
    level_dims: tuple[int, ...]
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
        found = forward(torch.zeros(1, 3, side, side, device=mean.device))
    tokens = None if found.tokens is None else found.tokens.shape[1]
    dim = found.pooled.shape[1]
    dims = tuple(min(level.shape[3], level_width(dim)) for level in found.levels)
    return Shapes(side, dim, dims, tokens)


def square_grid(cells: int) -> tuple[int, int] | None:
    """``(g, g)`` with as many cells; None if there is no such square."""
    side = math.isqrt(cells)
    return (side, side) if side * side == cells else None


def _filled(rows: NDArray[Any], count: int) -> NDArray[Any]:
    """So many rows, the last one repeated."""
    return np.concatenate([rows, np.repeat(rows[-1:], count - len(rows), axis=0)])


def _tensor(array: NDArray[Any]) -> "torch.Tensor":
    import torch

    return torch.from_numpy(np.require(array, np.uint8, ["C", "W"]))  # torch warns of read-only


def _array(tensor: "torch.Tensor") -> FloatArray:
    array: FloatArray = tensor.float().cpu().numpy()
    return array
