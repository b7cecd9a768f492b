"""Stage one, for training: the pictures that a network sees, decoded and resized once."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from medfocus_pipeline.config import EmbedConfig
from medfocus_pipeline.datasets.similarity import pixel_sha256
from medfocus_pipeline.embedding import needs_masks
from medfocus_pipeline.encoders.fit import fitted
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.image_roi import Similarity, region
from medfocus_pipeline.masks.focus import focus
from medfocus_pipeline.stores.job import Block, Job
from medfocus_pipeline.stores.keys import Recipe
from medfocus_pipeline.stores.opening import ArraySpec
from medfocus_pipeline.types import Candidates, Image, ModelIdentity

STAGE = "pictures"
VERSION = 1
SHARD_ROWS = 64

Picture = tuple[Image, str]
"""``(s, s, 3) uint8``, and the SHA-256 of the decoded pixels."""


def recipe(
    config: EmbedConfig, identity: ModelIdentity, *, masks: str | None, prompts: Sequence[str]
) -> Recipe:
    """What a store of pictures is made from.

    The encoder says side and preprocessing, so that its identity is in the key.

    Args:
        masks: key of the mask store; it counts only where the focus mode needs masks.
        prompts: the class prompts; they count only where the ROI rule reads them.
    """
    described = {"focus": config.focus, "fit": config.fit, "roi": config.roi}
    if not needs_masks(config):
        return Recipe(STAGE, VERSION, described | {"roi": None}, identity.as_json(), None)
    reads = {"prompts": list(prompts)} if config.roi == "text" else {}
    return Recipe(STAGE, VERSION, described | reads, identity.as_json(), masks)


def array_specs(encoder: Encoder) -> list[ArraySpec]:
    """The one array of the store."""
    shape = (encoder.side, encoder.side, 3)
    return [ArraySpec("picture", "uint8", shape, ("y", "x", "channel"))]


def job(
    encoder: Encoder,
    config: EmbedConfig,
    read: Callable[[str], Image],
    candidates: Callable[[str], Candidates] | None,
    *,
    similarity: Similarity | None = None,
    batch_size: int | None,
    workers: int,
    calls: int = 1,
) -> Job[Picture]:
    """How to compute the rows of a store of pictures; the encoder itself is not run.

    Args:
        read: the image of an id; may raise `ImageError`.
        candidates: the masks of an id; None where the focus mode needs none.
        similarity: for the ROI rule `text`, see `image_roi.text_similarity`.
        batch_size: read by no one: nothing is computed in batches.
        workers: threads that read.
        calls: of the encoder, likewise.
    """
    del batch_size, calls

    def load(image_id: str) -> Picture:
        image = read(image_id)
        focused = image
        if candidates is not None:
            roi = region(image, candidates(image_id), config, similarity)
            focused = focus(image, roi, config.focus)
        return fitted(focused, encoder, config.fit), pixel_sha256(image)

    def compute(batch: Sequence[Picture]) -> Block:
        pictures = np.stack([picture for picture, _ in batch])
        hashes = pa.array([digest for _, digest in batch], pa.string())
        return Block({"picture": pictures}, {"pixel_sha256": hashes})

    return Job(load, compute, SHARD_ROWS, workers)
