"""From images to features through the very functions that the stages call, without a store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline import embedding, segmentation
from medfocus_pipeline.config import EmbedConfig, MasksConfig
from medfocus_pipeline.devices import calls_at_once
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.features import focus_modes, joined
from medfocus_pipeline.segmenters.protocol import Segmenter
from medfocus_pipeline.stores.job import compute_all
from medfocus_pipeline.types import Device, FeaturePart, FloatArray, FocusMode, Image, Roi

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
        parts: whatever is asked of it: focus modes, and `roi_pooled` after one with a region.
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
    similarity: embedding.Similarity | None = None
    batch_size: int | None = None
    device: Device = "auto"

    def regions(self, images: Sequence[Image]) -> list[Roi]:
        """The ROI of each image; all of it where no part looks at a region."""
        if self.masks is None or self.segmenter is None:
            return [Roi(np.ones(image.shape[:2], np.bool_), fallback=False) for image in images]
        with calls_at_once(self.device) as calls:
            job = segmentation.job(
                self.segmenter,
                self.masks,
                _handed_over,
                batch_size=self.batch_size,
                workers=1,
                calls=calls,
            )
            blocks = compute_all(job, images)
        found = []
        for block in blocks:
            counts = block.columns["candidates"].to_pylist()
            found += [
                segmentation.candidates_at(block.arrays, row, count=count)
                for row, count in enumerate(counts)
            ]
        return [
            embedding.region(image, one, self.embed, self.similarity)
            for image, one in zip(images, found, strict=True)
        ]

    def encoded(self, images: Sequence[Image], rois: Sequence[Roi]) -> Encoded:
        """Embeddings as the stores keep them, of every focus mode that `parts` needs."""
        return {config.focus: self._encoded(config, images, rois) for config in self.modes}

    @property
    def modes(self) -> list[EmbedConfig]:
        """One configuration for each focus mode, in order."""
        return [self.embed.model_copy(update={"focus": mode}) for mode in focus_modes(self.parts)]

    def _encoded(
        self, config: EmbedConfig, images: Sequence[Image], rois: Sequence[Roi]
    ) -> dict[str, NDArray[Any]]:
        prepared = [
            embedding.prepare(
                image, roi if embedding.needs_masks(config) else None, config, self.encoder
            )
            for image, roi in zip(images, rois, strict=True)
        ]
        with calls_at_once(self.device) as calls:
            job = embedding.job(
                self.encoder,
                config,
                _handed_over,
                None,
                batch_size=self.batch_size,
                workers=1,
                calls=calls,
            )
            blocks = compute_all(job, prepared)
        return {
            name: np.concatenate([block.arrays[name] for block in blocks])
            for name in blocks[0].arrays
        }


def sources(parts: Sequence[FeaturePart]) -> list[tuple[FocusMode, str]]:
    """(focus mode, array) of each part; `roi_pooled` is of the mode before it."""
    found: list[tuple[FocusMode, str]] = []
    for part in parts:
        found.append((found[-1][0], part) if part == "roi_pooled" else (part, "pooled"))
    return found


def features(encoded: Encoded, parts: Sequence[FeaturePart]) -> FloatArray:
    """``(n, v, D) float32``, as `features.join` would make them of the stores.

    Args:
        encoded: from `StageOne.encoded`.
        parts: which to join, in this order.

    Raises:
        DataError: an embedding is missing, or not finite.
    """
    halves = []
    for (mode, name), part in zip(sources(parts), parts, strict=True):
        rows = encoded[mode].get(name)
        if rows is None or not np.isfinite(rows).all():
            raise DataError(f"The embedding of {part} is missing, or not finite.")
        halves.append(rows)
    return joined(halves)


def _handed_over(name: str) -> Image:
    """Stands for the reader of a job that is given its images."""
    raise ValueError(f"image {name} is not read, it is in memory")
