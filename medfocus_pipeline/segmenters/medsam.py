"""MedSAM (Ma et al. 2024): SAM fine-tuned on medical images with a box as the only prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medfocus_pipeline.config import MasksConfig, MedSamConfig, Runtime
from medfocus_pipeline.devices import autocast, resolve_device
from medfocus_pipeline.masks.candidates import Limits, select, stability
from medfocus_pipeline.sam.sam_model import PACE, decode, encode, image_size, load_sam
from medfocus_pipeline.sam.sam_pixels import WHOLE, in_frame, stretched
from medfocus_pipeline.segmenters.threshold import ThresholdSegmenter
from medfocus_pipeline.types import Boxes, Candidates, Image
from medfocus_pipeline.weights import Weights

_BORDER = np.array([[0, 0, 1, 1]], dtype=np.float32)
"""The image's border as a box, in shares of the image."""


def load(masks: MasksConfig, weights: Weights, runtime: Runtime) -> "MedSamSegmenter":
    """MedSAM with its weights, on its device.

    Raises:
        ConfigError: the device is not there.
        WeightsError: the files are not a SAM of Hugging Face, or are corrupt.
    """
    config = masks.segmenter_of(MedSamConfig)
    model = load_sam(weights).to(resolve_device(runtime.device))
    if runtime.compile:
        model.vision_encoder.compile()
    return MedSamSegmenter(model, config, max_candidates=masks.max_candidates, frame=masks.frame)


@dataclass(frozen=True, slots=True)
class MedSamSegmenter:
    """One candidate for each box; see `Segmenter` for the contract.

    The score is the predicted IoU, which MedSAM's training left without a loss: it orders the
    candidates, but no limit is set on it. No box confirms another, so the support is 1.

    Attributes:
        model: a `SamModel` of any image size, in evaluation mode, on its device.
        config: the boxes and the limits; `model` and `revision` play no part.
        max_candidates: K.
        frame: S, side of the masks' square frame, in pixels.
    """

    model: Any
    config: MedSamConfig
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
        with torch.inference_mode(), autocast(device, self.config.precision):
            pixels = stretched(images, side=side, device=device)
            embeddings = encode(self.model, pixels)
            return [
                self._candidates(embeddings[index : index + 1], image)
                for index, image in enumerate(images)
            ]

    def _candidates(self, embedding: Any, image: Image) -> Candidates:
        """The mask of each box of one image."""
        import torch

        boxes = torch.from_numpy(self._boxes(image) * image_size(self.model)).to(embedding.device)
        logits, scores = decode(self.model, embedding, boxes=boxes, several=False)
        drawings = in_frame(logits[:, 0], WHOLE, frame=self.frame).float().cpu().numpy()
        return select(
            drawings > 0,
            scores[:, 0].clamp(0, 1).cpu().numpy(),
            stability(drawings, offset=self.config.stability_offset),
            image=image,
            limits=Limits(min_area=self.config.min_area, max_area=self.config.max_area),
            duplicate_iou=self.config.duplicate_iou,
            max_candidates=self.max_candidates,
        )

    def _boxes(self, image: Image) -> Boxes:
        """``(p, 4) float32``, XYXY in shares of the image, at least one."""
        if self.config.box == "border":
            return _BORDER
        finder = ThresholdSegmenter(self.config.threshold, self.max_candidates, self.frame)
        (found,) = finder.segment([image])
        if len(found) == 0:
            return _BORDER
        height, width = image.shape[:2]
        return np.asarray(found.boxes / [width, height, width, height], dtype=np.float32)
