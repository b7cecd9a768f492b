"""Stage one, second half: embeddings of the focused images, and of the class prompts."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medfocus_pipeline.config import EmbedConfig
from medfocus_pipeline.datasets.similarity import pixel_sha256
from medfocus_pipeline.encoders.pooling import roi_pool
from medfocus_pipeline.encoders.protocol import Encoder, TextEncoder
from medfocus_pipeline.masks.focus import focus, focus_mask, view
from medfocus_pipeline.masks.roi import choose_roi
from medfocus_pipeline.stores.job import Block, Job
from medfocus_pipeline.stores.keys import Recipe
from medfocus_pipeline.stores.store import ArraySpec
from medfocus_pipeline.types import Candidates, FloatArray, Image, ModelIdentity, Roi

STAGE = "embeddings"
VERSION = 1
SHARD_ROWS = 256

Similarity = Callable[[Image, Candidates], FloatArray]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One image, ready for the encoder.

    Attributes:
        pictures: ``(v, s, s, 3) uint8``, one for each view.
        weights: ``(v, gh * gw) float32`` in [0, 1], the ROI's cover of each token; None
            without an ROI or a token grid.
        fallback: the ROI is the whole image for want of a candidate.
        roi_area: share of the image, in [0, 1].
        pixel_sha256: of the decoded pixels and their shape.
    """

    pictures: NDArray[np.uint8]
    weights: FloatArray | None
    fallback: bool
    roi_area: float
    pixel_sha256: str


def needs_masks(config: EmbedConfig) -> bool:
    """Whether the focus mode looks at the ROI at all."""
    return config.focus != "original"


def recipe(
    config: EmbedConfig, identity: ModelIdentity, *, masks: str | None, prompts: Sequence[str]
) -> Recipe:
    """What an embedding store of this configuration is made from.

    Args:
        masks: key of the mask store; it counts only where the focus mode needs masks.
        prompts: the class prompts; they count only where the ROI rule reads them.
    """
    described = config.model_dump(
        mode="json", exclude={"encoder": {"model", "checkpoint", "revision", "file", "ids"}}
    )
    if not needs_masks(config):
        masks, described["roi"] = None, None
    elif config.roi == "text":
        described["prompts"] = list(prompts)
    return Recipe(STAGE, VERSION, described, identity.as_json(), upstream=masks)


def has_roi_pooled(config: EmbedConfig, encoder: Encoder) -> bool:
    """Whether a store has `roi_pooled` beside `pooled`."""
    return needs_masks(config) and encoder.token_grid is not None


def array_specs(config: EmbedConfig, encoder: Encoder) -> list[ArraySpec]:
    """Arrays of an embedding store."""
    names = ("pooled", "roi_pooled") if has_roi_pooled(config, encoder) else ("pooled",)
    shape = (len(config.views), encoder.dim)
    return [ArraySpec(name, "float16", shape, ("view", "feature")) for name in names]


def region(
    image: Image, found: Candidates, config: EmbedConfig, similarity: Similarity | None
) -> Roi:
    """The ROI of an image with its candidates.

    Args:
        similarity: for the ROI rule `text`, see `text_similarity`.
    """
    scores = similarity(image, found) if similarity and len(found) else None
    return choose_roi(found, config.roi, size=image.shape[:2], similarity=scores)


def prepare(image: Image, roi: Roi | None, config: EmbedConfig, encoder: Encoder) -> Prepared:
    """Focus an image on its ROI and render its views.

    Args:
        roi: None where the focus mode needs none.
    """
    whole = roi or Roi(np.ones(image.shape[:2], np.bool_), fallback=False)
    focused = focus(image, whole, config.focus)
    pictures = np.stack([encoder.prepare(view(focused, name)) for name in config.views])
    weights = None
    if has_roi_pooled(config, encoder):
        mask = focus_mask(whole, config.focus)
        weights = np.stack(
            [encoder.prepare_mask(view(mask, name)).ravel() for name in config.views]
        )
    return Prepared(
        pictures, weights, whole.fallback, float(whole.mask.mean()), pixel_sha256(image)
    )


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
) -> Job[Prepared]:
    """How to compute the rows of an embedding store.

    Args:
        read: the image of an id; may raise `ImageError`.
        candidates: the masks of an id; None where the focus mode needs none.
        similarity: for the ROI rule `text`, see `text_similarity`.
        batch_size: images a call; None is what suits the encoder.
        workers: threads that load.
        calls: calls of the encoder at a time.
    """

    def load(image_id: str) -> Prepared:
        image = read(image_id)
        roi = None
        if candidates is not None:
            roi = region(image, candidates(image_id), config, similarity)
        return prepare(image, roi, config, encoder)

    def compute(batch: Sequence[Prepared]) -> Block:
        return encode(batch, encoder)

    images = max(1, encoder.batch_size // len(config.views))
    return Job(load, compute, batch_size or images, workers, calls)


def looked_up_job(
    rows: Mapping[str, FloatArray], read: Callable[[str], Image], *, workers: int
) -> Job[tuple[FloatArray, str]]:
    """How to fill a store with features that were computed elsewhere; images are only hashed.

    Args:
        rows: image id -> ``(d,) float32``.
        read: the image of an id; may raise `ImageError`.
        workers: threads that load.
    """

    def load(image_id: str) -> tuple[FloatArray, str]:
        return rows[image_id], pixel_sha256(read(image_id))

    def compute(batch: Sequence[tuple[FloatArray, str]]) -> Block:
        pooled = np.stack([row for row, _ in batch])[:, None]
        with np.errstate(over="ignore"):  # an infinity is refused by the store, with its place
            halves = pooled.astype(np.float16)
        columns = {
            "fallback": pa.array([False] * len(batch), pa.bool_()),
            "roi_area": pa.array([1.0] * len(batch), pa.float32()),
            "pixel_sha256": pa.array([digest for _, digest in batch], pa.string()),
        }
        return Block({"pooled": halves}, columns)

    return Job(load, compute, SHARD_ROWS, workers)


def encode(batch: Sequence[Prepared], encoder: Encoder) -> Block:
    """Embed prepared images: ``(n, v, d) float16``, as a store keeps them."""
    n, v = len(batch), len(batch[0].pictures)
    encoded = encoder.encode(np.concatenate([one.pictures for one in batch]))
    arrays = {"pooled": encoded.pooled}
    if encoded.tokens is not None and batch[0].weights is not None:
        weights = np.concatenate([one.weights for one in batch if one.weights is not None])
        arrays["roi_pooled"] = roi_pool(encoded.tokens, weights)
    with np.errstate(over="ignore"):  # an infinity is refused by the store, with its place
        halves = {name: rows.reshape(n, v, -1).astype(np.float16) for name, rows in arrays.items()}
    columns = {
        "fallback": pa.array([one.fallback for one in batch], pa.bool_()),
        "roi_area": pa.array([one.roi_area for one in batch], pa.float32()),
        "pixel_sha256": pa.array([one.pixel_sha256 for one in batch], pa.string()),
    }
    return Block(halves, columns)


def text_similarity(encoder: Encoder, texts: FloatArray) -> Similarity:
    """Similarity of each candidate's crop with the class text it fits best.

    Args:
        texts: ``(K, d) float32``, L2-normalised class texts.

    Returns:
        A function of an image and its candidates that gives ``(k,) float32`` cosines;
        safe to call from several threads.
    """
    lock = threading.Lock()

    def similarity(image: Image, found: Candidates) -> FloatArray:
        rois = (
            choose_roi(found[index], "best", size=image.shape[:2]) for index in range(len(found))
        )
        pictures = np.stack([encoder.prepare(focus(image, roi, "crop")) for roi in rois])
        with lock:
            pooled = encoder.encode(pictures).pooled
        norms = np.linalg.norm(pooled, axis=1, keepdims=True)
        unit = pooled / np.maximum(norms, np.finfo(np.float32).tiny)
        best: FloatArray = (unit @ texts.T).max(axis=1)
        return best

    return similarity


TEXT_STAGE = "texts"
TEXT_VERSION = 1
TEXT_SHARD_ROWS = 256


def text_recipe(identity: ModelIdentity) -> Recipe:
    """What a text store is made from: any prompt can be a row of it."""
    return Recipe(TEXT_STAGE, TEXT_VERSION, {}, identity.as_json(), upstream=None)


def text_id(text: str) -> str:
    """SHA-256 of a prompt, the id of its row."""
    return hashlib.sha256(text.encode()).hexdigest()


def text_array_specs(dim: int) -> list[ArraySpec]:
    """Arrays of a text store."""
    return [ArraySpec("pooled", "float32", (dim,), ("feature",))]


def text_job(encoder: TextEncoder, texts: Sequence[str]) -> Job[str]:
    """How to compute the rows of a text store, one call at a time."""
    by_id = {text_id(text): text for text in texts}

    def compute(batch: Sequence[str]) -> Block:
        columns = {
            "text": pa.array(list(batch), pa.string()),
            "temperature": pa.array([encoder.temperature] * len(batch), pa.float32()),
        }
        return Block({"pooled": encoder.encode_text(batch)}, columns)

    return Job(by_id.__getitem__, compute, TEXT_SHARD_ROWS, workers=1)
