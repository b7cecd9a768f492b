"""SAM 2 (Ravi et al. 2024) prompted with a grid of single points.

Every point gives three masks, of a part, a whole and something between. They are judged and
compared at a quarter of the model's image size and never brought to the image's own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.config import Sam2Config
from medfocus_pipeline.devices import autocast
from medfocus_pipeline.masks.candidates import select, stability
from medfocus_pipeline.segmenters.sam2_decoder import PromptDecoder
from medfocus_pipeline.types import Candidates, FloatArray, Image

if TYPE_CHECKING:
    from torch import Tensor

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class _Pace:
    """How much a device takes at once, measured on a CPU, a guess elsewhere.

    Attributes:
        images: images encoded together.
        tokens: image tokens decoded together: those of one image times the prompts.
    """

    images: int
    tokens: int


_PACE = {
    "cpu": _Pace(images=1, tokens=2**14),
    "cuda": _Pace(images=8, tokens=2**18),
    "mps": _Pace(images=2, tokens=2**16),
}


class Sam2Segmenter:
    """Candidates from a grid of point prompts; see `Segmenter` for the contract.

    Args:
        model: a `SAM2Base` of any image size, in evaluation mode, on its device.
        config: the grid and the limits; `size`, `checkpoint` and `revision` play no part.
        max_candidates: K.
        frame: S, side of the masks' square frame, in pixels.
        compile_encoder: `torch.compile` the image encoder.
    """

    def __init__(
        self,
        model: Any,
        config: Sam2Config,
        *,
        max_candidates: int,
        frame: int,
        compile_encoder: bool = False,
    ) -> None:
        import torch

        self._model = model
        self._config = config
        self._max_candidates = max_candidates
        self._frame = frame
        self._pace = _PACE[model.device.type]
        if compile_encoder:
            model.image_encoder.compile()
        with torch.inference_mode():
            dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
            self._decoder = PromptDecoder(model, dtype=dtype)
            self._prompts = self._embed_grid()

    @property
    def batch_size(self) -> int:
        """Images encoded together when the user names no number."""
        return self._pace.images

    def segment(self, images: Sequence[Image]) -> list[Candidates]:
        """Candidates of each image, in order."""
        import torch

        if not images:
            return []
        with torch.inference_mode():
            levels = self._encode(images)
            return [
                self._candidates([level[index] for level in levels], size=image.shape[:2])
                for index, image in enumerate(images)
            ]

    def _embed_grid(self) -> "Tensor":
        """``(p, t, c)``, prompts at the centres of the grid's cells, the same for every image."""
        import torch

        model, side = self._model, self._config.points_per_side
        line = (torch.arange(side, device=model.device) + 0.5) / side * model.image_size
        points = torch.cartesian_prod(line, line).flip(-1).unsqueeze(1)
        labels = torch.ones(points.shape[:2], dtype=torch.int, device=model.device)
        prompts: Tensor = model.sam_prompt_encoder((points, labels), boxes=None, masks=None)[0]
        return prompts

    def _encode(self, images: Sequence[Image]) -> "list[Tensor]":
        """Feature maps of a batch, fine to coarse: ``(n, c', g', g')`` each."""
        import torch

        model = self._model
        batch = torch.stack([self._pixels(image) for image in images])
        with autocast(model.device.type, self._config.precision):
            quarter, half, whole = model.forward_image(batch)["backbone_fpn"][-3:]
        if model.directly_add_no_mem_embed:
            whole = whole + model.no_mem_embed.view(1, -1, 1, 1)
        return [quarter, half, whole]

    def _pixels(self, image: Image) -> "Tensor":
        """``(3, s, s) float32``, squeezed to the model's size and normalised, as `sam2` does."""
        import torch
        from torch.nn import functional

        device, side = self._model.device, self._model.image_size
        writable = np.require(image, np.uint8, ["C", "W"])  # torch warns of anything else
        pixels = torch.from_numpy(writable).to(device).permute(2, 0, 1).float() / 255
        if pixels.shape[1:] != (side, side):
            pixels = functional.interpolate(
                pixels[None], size=(side, side), mode="bilinear", antialias=True
            )[0]
        mean, std = (torch.tensor(x, device=device).view(3, 1, 1) for x in (_MEAN, _STD))
        return (pixels - mean) / std

    def _candidates(self, levels: "list[Tensor]", *, size: tuple[int, int]) -> Candidates:
        """The best masks of one image from its feature maps."""
        config = self._config
        masks, scores, stabilities = [], [], []
        for logits, score in self._decode(levels):
            masks.append(logits > 0)
            scores.append(score)
            stabilities.append(stability(logits, offset=config.stability_offset))
        return select(
            np.concatenate(masks),
            np.concatenate(scores),
            np.concatenate(stabilities),
            size=size,
            min_score=config.min_score,
            min_stability=config.min_stability,
            min_area=config.min_area,
            max_area=config.max_area,
            duplicate_iou=config.duplicate_iou,
            max_candidates=self._max_candidates,
        )

    def _decode(self, levels: "list[Tensor]") -> Iterator[tuple[FloatArray, FloatArray]]:
        """Logits ``(m, S, S)`` and scores ``(m,)`` of the masks with a good enough score."""
        import torch
        from torch.nn import functional

        image = self._decoder.image_tokens(levels)
        chunk = max(1, self._pace.tokens // len(image.tokens))
        for prompts in torch.split(self._prompts, chunk):
            sketches = self._decoder.attend(image, prompts)
            good = sketches.score >= self._config.min_score
            drawn = good.any(dim=1)
            logits = self._decoder.draw(image, sketches[drawn])[good[drawn]]
            if logits.shape[-1] != self._frame:
                frame = (self._frame, self._frame)
                logits = functional.interpolate(logits[:, None], size=frame, mode="bilinear")[:, 0]
            yield logits.cpu().numpy(), sketches.score[good].cpu().numpy()
