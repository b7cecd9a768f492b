"""The first SAM, prompted with single points of a grid: all, or the few that count."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.config import MasksConfig, Runtime, SamConfig
from medfocus_pipeline.devices import autocast, resolve_device
from medfocus_pipeline.masks.candidates import Limits, stability
from medfocus_pipeline.sam.sam_model import PACE, TOKENS, decode, encode, image_size, load_sam
from medfocus_pipeline.sam.sam_pixels import Extent, in_frame, letterboxed
from medfocus_pipeline.segmenters import prompting
from medfocus_pipeline.segmenters.mask_predictions import MaskPredictions, candidates, joined
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


class SamSegmenter:
    """Candidates from point prompts; see `Segmenter` for the contract.

    Every point gives three masks, of a part, a whole and something between.

    Args:
        model: a `SamModel` of any image size, in evaluation mode, on its device.
        config: the grid and the limits; `model` and `revision` play no part.
        max_candidates: K.
        frame: S, side of the masks' square frame, in pixels.
    """

    def __init__(self, model: Any, config: SamConfig, *, max_candidates: int, frame: int) -> None:
        self._model = model
        self._config = config
        self._max_candidates = max_candidates
        self._frame = frame
        self._limits = Limits(
            config.min_score, config.min_stability, config.min_area, config.max_area
        )
        self._points = prompting.grid(config.points_per_side)
        self._device = model.device.type

    @property
    def batch_size(self) -> int:
        """Images encoded together when the user names no number."""
        return PACE[self._device]

    def segment(self, images: Sequence[Image]) -> list[Candidates]:
        """Candidates of each image, in order."""
        import torch

        if not images:
            return []
        side = image_size(self._model)
        with torch.inference_mode():
            pixels, extents = letterboxed(images, side=side, device=self._device)
            with autocast(self._device, self._config.precision):
                embeddings = encode(self._model, pixels)
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
            config=self._config,
            limits=self._limits,
            max_candidates=self._max_candidates,
        )

    def _sample(self, embedding: "Tensor", extent: Extent) -> FloatArray:
        """``(p, c) float32``, the embedding's mean around the grid's points."""
        from torch.nn import functional

        cells = embedding.shape[-1]
        width, height = (max(1, round(share * cells)) for share in extent)
        side = self._config.points_per_side
        small = functional.interpolate(
            embedding[..., :height, :width].float(),
            size=(side, side),
            mode="bilinear",
            antialias=True,
        )
        sampled: FloatArray = small[0].flatten(1).mT.cpu().numpy()
        return sampled

    def _ask(
        self, embedding: "Tensor", extent: Extent, points: IntArray, *, first: int
    ) -> MaskPredictions:
        """The answers to some of the grid's points, whose prompts are numbered from `first`."""
        import torch

        scale = image_size(self._model) * np.array(extent, dtype=np.float32)
        places = torch.from_numpy(self._points[points] * scale).to(self._device)
        chunk = max(1, TOKENS[self._device] // embedding[0, 0].numel())
        parts = []
        for start in range(0, len(points), chunk):
            with autocast(self._device, self._config.precision):
                logits, scores = decode(
                    self._model, embedding, points=places[start : start + chunk], several=True
                )
            scores = scores.clamp(0, 1)
            good = scores >= self._limits.min_score
            drawings = in_frame(logits[good], extent, frame=self._frame).cpu().numpy()
            parts.append(
                MaskPredictions(
                    masks=drawings > 0,
                    score=scores[good].cpu().numpy(),
                    stability=stability(drawings, offset=self._config.stability_offset),
                    prompt=first + start + good.nonzero()[:, 0].cpu().numpy(),
                )
            )
        return joined(parts)
