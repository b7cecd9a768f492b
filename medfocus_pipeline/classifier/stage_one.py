"""From images to features through the very functions that the stages call, without a store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline import embedding, image_roi, segmentation
from medfocus_pipeline.config import EmbedConfig, MasksConfig
from medfocus_pipeline.devices import calls_at_once
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.features import focus_modes
from medfocus_pipeline.segmenters.protocol import Segmenter
from medfocus_pipeline.stores.job import Block, Job, Loaded, compute_all
from medfocus_pipeline.types import Device, FeaturePart, FloatArray, FocusMode, Image, Roi
from medfocus_pipeline.vectors import joined

Encoded: TypeAlias = Mapping[FocusMode, Mapping[str, NDArray[Any]]]
"""Focus mode -> array of a store -> ``(n, v, d) float16``."""


@dataclass(frozen=True, slots=True, eq=False)
class StageOne:
    """Segmenter, ROI rule, focus modes, encoder: what a head's features come from.

    The stages round: embeddings are stored in float16, masks in bits. So does this, by the same
    functions (`segmentation.job`, `embedding.encode`), and gives the same features.

    Attributes:
        masks: of the segmenter; None where no part looks at a region.
        segmenter: None likewise.
        encoder: of pictures.
        parts: of the features, whatever is asked of it.
        embed: of the encoder, the ROI rule and the views; its focus mode is not read.
        similarity: for the ROI rule `text`.
        batch_size: images a call of a model; None is what suits each of them.
        device: where the models are.
    """

    masks: MasksConfig | None
    segmenter: Segmenter | None
    encoder: Encoder
    parts: tuple[FeaturePart, ...]
    embed: EmbedConfig
    similarity: image_roi.Similarity | None = None
    batch_size: int | None = None
    device: Device = "auto"

    def regions(self, images: Sequence[Image]) -> list[Roi]:
        """The ROI of each image; all of it where no part looks at a region."""
        if self.masks is None or self.segmenter is None:
            return [Roi(np.ones(image.shape[:2], np.bool_), fallback=False) for image in images]
        make = partial(segmentation.job, self.segmenter, self.masks, _handed_over)
        found = []
        for block in self._computed(make, images):
            found += [
                segmentation.candidates_at(block.arrays, block.columns, row)
                for row in range(len(block.columns["candidates"]))
            ]
        return [
            image_roi.region(image, one, self.embed, self.similarity)
            for image, one in zip(images, found, strict=True)
        ]

    def encoded(self, images: Sequence[Image], rois: Sequence[Roi]) -> Encoded:
        """Embeddings as the stores keep them, of every focus mode that `parts` needs."""
        return {config.focus: self._encoded(config, images, rois) for config in self.modes}

    def seen(self, roi: Roi) -> float:
        """Share of an ROI that the encoder sees, in [0, 1], where it sees least; 1 without one."""
        if self.masks is None:
            return 1.0
        return min(embedding.roi_seen(roi, config, self.encoder) for config in self.modes)

    @property
    def modes(self) -> list[EmbedConfig]:
        """One configuration for each focus mode, in order."""
        regions = any(part.in_region for part in self.parts)
        return [
            self.embed.model_copy(update={"focus": mode, "roi_parts": regions})
            for mode in focus_modes(self.parts)
        ]

    def _encoded(
        self, config: EmbedConfig, images: Sequence[Image], rois: Sequence[Roi]
    ) -> dict[str, NDArray[Any]]:
        prepared = [
            embedding.prepare(
                image, roi if embedding.needs_masks(config) else None, config, self.encoder
            )
            for image, roi in zip(images, rois, strict=True)
        ]
        make = partial(embedding.job, self.encoder, config, _handed_over, None)
        blocks = self._computed(make, prepared)
        return {
            name: np.concatenate([block.arrays[name] for block in blocks])
            for name in blocks[0].arrays
        }

    def _computed(self, make: Callable[..., Job[Loaded]], inputs: Sequence[Loaded]) -> list[Block]:
        with calls_at_once(self.device) as calls:
            job = make(batch_size=self.batch_size, workers=1, calls=calls)
            return compute_all(job, inputs)


def features(encoded: Encoded, parts: Sequence[FeaturePart]) -> FloatArray:
    """``(n, v, D) float32``, as `features.join` would make them of the stores.

    Args:
        encoded: from `StageOne.encoded`.
        parts: which to join, in this order.

    Raises:
        DataError: an embedding is missing, or not finite.
    """
    halves = []
    for part in parts:
        arrays = [encoded[part.focus].get(name) for name in part.arrays]
        found = [rows for rows in arrays if rows is not None and np.isfinite(rows).all()]
        if len(found) < len(arrays):
            raise DataError(
                f"The embedding of {part} is missing, or not finite. Export the classifier again: "
                "medfocus export"
            )
        halves.append(found)
    return joined(halves)


def _handed_over(name: str) -> Image:
    """Stands for the reader of a job that is given its images."""
    raise ValueError(f"image {name} is not read, it is in memory")
