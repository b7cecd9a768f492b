"""The first SAM, prompted with single points of a grid: all, or the few that count."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.config import MasksConfig, Runtime, SamConfig
from medfocus_pipeline.devices import autocast, resolve_device
from medfocus_pipeline.masks.candidates import stability
from medfocus_pipeline.sam.sam_model import PACE, TOKENS, decode, encode, image_size, load_sam
from medfocus_pipeline.sam.sam_pixels import Extent, in_frame, letterboxed
from medfocus_pipeline.segmenters import prompting
from medfocus_pipeline.segmenters.mask_predictions import (
    MaskPredictions,
    candidates,
    joined,
    sampled,
)
from medfocus_pipeline.types import Candidates, FloatArray, Image, IntArray
from medfocus_pipeline.weights import Weights

if TYPE_CHECKING:
    from torch import Tensor


def load(masks: MasksConfig, weights: Weights, runtime: Runtime) -> "SamSegmenter":
    """SAM with its weights, on its device.

    Raises:
        ConfigError: the device is not there.
        WeightsError: the files are not a SAM of Hugging Face, or are corrupt.
    """
    config = masks.segmenter_of(SamConfig)
    model = load_sam(weights).to(resolve_device(runtime.device))
    if runtime.compile:
        model.vision_encoder.compile()
    return SamSegmenter(model, config, max_candidates=masks.max_candidates, frame=masks.frame)


@dataclass(frozen=True, slots=True)
class SamSegmenter:
    """Candidates from point prompts; see `Segmenter` for the contract.

    Every point gives three masks, of a part, a whole and something between.

    Attributes:
        model: a `SamModel` of any image size, in evaluation mode, on its device.
        config: the grid and the limits; `model` and `revision` play no part.
        max_candidates: K.
        frame: S, side of the masks' square frame, in pixels.
    """

    model: Any
    config: SamConfig
    max_candidates: int
    frame: int

    @property
    def batch_size(self) -> int:
        """Images encoded together when the user names no number."""
        return PACE[self.model.device.type]

    def segment(self, images: Sequence[Image]) -> list[Candidates]:
        """Candidates of each image, in order."""
        import torch

        if not images:
            return []
        side, device = image_size(self.model), self.model.device.type
        with torch.inference_mode():
            pixels, extents = letterboxed(images, side=side, device=device)
            with autocast(device, self.config.precision):
                embeddings = encode(self.model, pixels)
            return [
                self._candidates(embeddings[index : index + 1], extents[index], image)
                for index, image in enumerate(images)
            ]

    def _candidates(self, embedding: "Tensor", extent: Extent, image: Image) -> Candidates:
        """The best masks of one image."""

        def ask(points: IntArray, first: int) -> MaskPredictions:
            return self._ask(embedding, extent, points, first=first)

        return candidates(
            ask,
            lambda: [self._sample(embedding, extent)],
            image,
            config=self.config,
            max_candidates=self.max_candidates,
        )

    def _sample(self, embedding: "Tensor", extent: Extent) -> FloatArray:
        """``(p, c) float32``, the embedding's mean around the grid's points."""
        cells = embedding.shape[-1]
        width, height = (max(1, round(share * cells)) for share in extent)
        return sampled(embedding[..., :height, :width], self.config.points_per_side)

    def _ask(
        self, embedding: "Tensor", extent: Extent, points: IntArray, *, first: int
    ) -> MaskPredictions:
        """The answers to some of the grid's points, whose prompts are numbered from `first`."""
        import torch

        device = self.model.device.type
        scale = image_size(self.model) * np.array(extent, dtype=np.float32)
        grid = prompting.grid(self.config.points_per_side)
        places = torch.from_numpy(grid[points] * scale).to(device)
        chunk = max(1, TOKENS[device] // embedding[0, 0].numel())
        parts = []
        for start in range(0, len(points), chunk):
            with autocast(device, self.config.precision):
                logits, scores = decode(
                    self.model, embedding, points=places[start : start + chunk], several=True
                )
            scores = scores.clamp(0, 1)
            good = scores >= self.config.min_score
            drawings = in_frame(logits[good], extent, frame=self.frame).cpu().numpy()
            parts.append(
                MaskPredictions(
                    masks=drawings > 0,
                    score=scores[good].cpu().numpy(),
                    stability=stability(drawings, offset=self.config.stability_offset),
                    prompt=first + start + good.nonzero()[:, 0].cpu().numpy(),
                )
            )
        return joined(parts)
