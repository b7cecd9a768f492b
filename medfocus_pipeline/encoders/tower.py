"""What every image encoder does alike: from uint8 pictures to embeddings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.devices import autocast
from medfocus_pipeline.encoders.image_model import ImageModel, Maps
from medfocus_pipeline.encoders.pooling import level_width, narrowed, pool_map
from medfocus_pipeline.types import Encoded, FloatArray, Image

if TYPE_CHECKING:
    import torch

    Read: TypeAlias = Callable[[Maps, torch.Tensor | None], dict[str, torch.Tensor]]
    """What is kept of a forward pass, by name; the tensor is the covers' ``(n, e, e) float32``."""


@dataclass(frozen=True, slots=True)
class ImageTower:
    """An `Encoder` made of a model's own preprocessing and its forward pass."""

    model: ImageModel

    @property
    def batch_size(self) -> int:
        """See `Encoder`."""
        return self.model.batch_size

    @property
    def side(self) -> int:
        """See `Encoder`."""
        return self.model.side

    @property
    def dim(self) -> int:
        """See `Encoder`."""
        return self.model.dim

    @property
    def level_dims(self) -> tuple[int, ...]:
        """See `LevelEncoder`."""
        return self.model.level_dims

    @property
    def token_grid(self) -> tuple[int, int] | None:
        """See `Encoder`."""
        return self.model.token_grid

    @property
    def device(self) -> "torch.device":
        """Where the model is."""
        return self.model.mean.device

    def prepare(self, image: Image) -> Image:
        """The picture that the model sees, ``(s, s, 3) uint8``."""
        return self.model.resize_and_crop(image)

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
        with autocast(self.device.type, self.model.precision):
            pixels = self._normalised(pixels.to(self.device))
            return self.model.forward(pixels).pooled.float()

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
        self, pictures: NDArray[Any], covers: NDArray[np.uint8] | None, read: "Read"
    ) -> dict[str, FloatArray]:
        """What is read of the forward passes over all pictures."""
        size = self.model.at_once if self.device.type == "cpu" else max(1, len(pictures))
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
        self, pictures: NDArray[Any], covers: NDArray[np.uint8] | None, read: "Read"
    ) -> dict[str, FloatArray]:
        import torch

        device = self.device
        pixels = _tensor(pictures).to(device)
        weights, extent = None, self.model.token_extent
        if covers is not None:
            weights = _tensor(covers).to(device)[:, :extent, :extent].float() / 255
        with torch.inference_mode():
            with autocast(device.type, self.model.precision):
                found = self.model.forward(self._normalised(pixels))
            return {name: _array(tensor) for name, tensor in read(found, weights).items()}

    def _normalised(self, pixels: "torch.Tensor") -> "torch.Tensor":
        # (n, s, s, 3) seen as (n, 3, s, s) is the channels-last layout, the faster one.
        return ((pixels - self.model.mean) / self.model.std).permute(0, 3, 1, 2)


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

        with torch.inference_mode(), autocast(self.device.type, self.model.precision):
            return _array(self.text_features(list(texts)))


def _filled(rows: NDArray[Any], count: int) -> NDArray[Any]:
    """So many rows, the last one repeated."""
    return np.concatenate([rows, np.repeat(rows[-1:], count - len(rows), axis=0)])


def _tensor(array: NDArray[Any]) -> "torch.Tensor":
    import torch

    return torch.from_numpy(np.require(array, np.uint8, ["C", "W"]))  # torch warns of read-only


def _array(tensor: "torch.Tensor") -> FloatArray:
    array: FloatArray = tensor.float().cpu().numpy()
    return array
