"""Stage one, second half: embeddings of the focused images, and of the class prompts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medfocus_pipeline.augmentation import Change, draw
from medfocus_pipeline.columns import numbers
from medfocus_pipeline.config import EmbedConfig
from medfocus_pipeline.datasets.similarity import pixel_sha256
from medfocus_pipeline.encoders.fit import cover, fitted, share_seen
from medfocus_pipeline.encoders.pooling import roi_pool, token_weights
from medfocus_pipeline.encoders.protocol import Encoder, LevelEncoder
from medfocus_pipeline.image_roi import Similarity, region
from medfocus_pipeline.masks.focus import focus, focus_mask, view
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.stores.job import Block, Job
from medfocus_pipeline.stores.keys import Recipe
from medfocus_pipeline.stores.opening import ArraySpec
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import (
    Candidates,
    FloatArray,
    Image,
    Mask,
    ModelIdentity,
    Roi,
    View,
)

STAGE = "embeddings"
VERSION = 3
SHARD_ROWS = 256


@dataclass(frozen=True, slots=True)
class Prepared:
    """One image, ready for the encoder.

    Attributes:
        pictures: ``(v, s, s, 3) uint8``, one for each view.
        covers: ``(v, s, s) uint8``, the ROI in the same frames, 255 is all covered; None
            without an ROI.
        seen: share of the ROI, in [0, 1], that the view which shows most of it shows.
        fallback: the ROI is the whole image for want of a candidate.
        roi_area: share of the image, in [0, 1].
        pixel_sha256: of the decoded pixels and their shape.
    """

    pictures: NDArray[np.uint8]
    covers: NDArray[np.uint8] | None
    seen: float
    fallback: bool
    roi_area: float
    pixel_sha256: str


def needs_masks(config: EmbedConfig) -> bool:
    """Whether the store depends on the ROI at all."""
    return config.focus != "original" or config.roi_parts


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
    described["roi_parts"] = needs_masks(config)
    if not config.augmented:
        del described["augmentation_seed"]
    if not needs_masks(config):
        masks, described["roi"] = None, None
    elif config.roi == "text":
        described["prompts"] = list(prompts)
    return Recipe(STAGE, VERSION, described, identity.as_json(), upstream=masks)


def array_specs(config: EmbedConfig, encoder: Encoder) -> list[ArraySpec]:
    """Arrays of an embedding store: what one pass over its pictures gives.

    Levels are kept as their mean over the fixed views, a third of the bytes: on the sample sets
    that classifies as well as one of each view.
    """
    widths = {"pooled": encoder.dim}
    levels = sum(encoder.level_dims) if isinstance(encoder, LevelEncoder) else 0
    if levels:
        widths["levels"] = levels
    if needs_masks(config):
        widths |= {"roi_pooled": encoder.dim} if encoder.token_grid else {}
        widths |= {"roi_levels": levels} if levels else {}
    return [
        ArraySpec(
            name,
            "float16",
            (1 if name in _LEVELS and not config.augmented else len(config.views), width),
            ("view", "feature"),
        )
        for name, width in widths.items()
    ]


def prepare(image: Image, roi: Roi | None, config: EmbedConfig, encoder: Encoder) -> Prepared:
    """Focus an image on its ROI and render its views.

    Args:
        roi: None where the focus mode needs none.
    """
    whole = roi or Roi(np.ones(image.shape[:2], np.bool_), fallback=False)
    focused, digest = focus(image, whole, config.focus), pixel_sha256(image)
    views = renditions(config, digest)
    pictures = np.stack(
        [one.picture(fitted(view(focused, name), encoder, config.fit)) for name, one in views]
    )
    covers, seen = None, 1.0
    if needs_masks(config):
        mask = focus_mask(whole, config.focus)
        covers = np.stack(
            [one.cover(cover(view(mask, name), encoder, config.fit)) for name, one in views]
        )
        seen = roi_seen(whole, config, encoder)
    return Prepared(pictures, covers, seen, whole.fallback, float(whole.mask.mean()), digest)


def renditions(config: EmbedConfig, digest: str) -> list[tuple[View, Change]]:
    """Each view as a fixed one, and what then changes of the encoder's square.

    Args:
        digest: of the image's pixels: each image has changes of its own, in any data set.
    """
    seed, found = config.augmentation_seed, list[tuple[View, Change]]()
    for place, name in enumerate(config.views):
        if name == "trivial_augment" or name == "medical":
            number = config.views[:place].count(name)
            drawn = draw(name, generator("augmentation", seed, digest, name, number))
            found.append(("identity", drawn))
        else:
            found.append((name, Change()))
    return found


_LEVELS = ("levels", "roi_levels")

LEAST_SEEN = 0.5
"""Of an ROI; where the encoder sees less, that is said."""


def roi_seen(roi: Roi, config: EmbedConfig, encoder: Encoder) -> float:
    """Share of an ROI, in [0, 1], that the encoder sees in the view that shows most of it."""
    mask = focus_mask(roi, config.focus)
    names = {name for name, _ in renditions(config, "")}
    return max(_share_seen(mask, view(mask, name), encoder, config) for name in names)


def _share_seen(mask: Mask, part: Mask, encoder: Encoder, config: EmbedConfig) -> float:
    if not part.any():
        return 0.0
    return float(part.sum() / mask.sum()) * share_seen(part, encoder, config.fit)


def out_of_sight(store: Store) -> int:
    """How many rows of an embedding store have an ROI that lies mostly outside what was seen."""
    table = store.index(columns=["roi_seen"]).table()
    return 0 if table is None else int((numbers(table["roi_seen"]) < LEAST_SEEN).sum())


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
        return encode(batch, encoder, levels_of_each=config.augmented)

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
            "roi_seen": pa.array([1.0] * len(batch), pa.float32()),
            "pixel_sha256": pa.array([digest for _, digest in batch], pa.string()),
        }
        return Block({"pooled": halves}, columns)

    return Job(load, compute, SHARD_ROWS, workers)


def encode(batch: Sequence[Prepared], encoder: Encoder, *, levels_of_each: bool = False) -> Block:
    """Embed prepared images: ``(n, v, d) float16``, as a store keeps them.

    Of the levels, ``(n, 1, d)``: the mean over the views, unless those of each are asked for.
    """
    n, v = len(batch), len(batch[0].pictures)
    covers = [one.covers for one in batch if one.covers is not None]
    arrays = pooled_arrays(
        encoder,
        np.concatenate([one.pictures for one in batch]),
        np.concatenate(covers) if covers else None,
    )
    by_view = {name: rows.reshape(n, v, -1) for name, rows in arrays.items()}
    if not levels_of_each:
        levels = [name for name in _LEVELS if name in by_view]
        by_view |= {name: by_view[name].mean(1, keepdims=True) for name in levels}
    with np.errstate(over="ignore"):  # an infinity is refused by the store, with its place
        halves = {name: rows.astype(np.float16) for name, rows in by_view.items()}
    columns = {
        "fallback": pa.array([one.fallback for one in batch], pa.bool_()),
        "roi_area": pa.array([one.roi_area for one in batch], pa.float32()),
        "roi_seen": pa.array([one.seen for one in batch], pa.float32()),
        "pixel_sha256": pa.array([one.pixel_sha256 for one in batch], pa.string()),
    }
    return Block(halves, columns)


def pooled_arrays(
    encoder: Encoder, pictures: NDArray[np.uint8], covers: NDArray[np.uint8] | None
) -> dict[str, FloatArray]:
    """What one pass gives of prepared pictures, see `LevelEncoder.pool`, of any encoder."""
    if isinstance(encoder, LevelEncoder):
        return encoder.pool(pictures, covers)
    encoded = encoder.encode(pictures)
    arrays = {"pooled": encoded.pooled}
    if covers is not None and encoded.tokens is not None and encoder.token_grid is not None:
        weights = token_weights(covers, encoder.token_grid)
        arrays["roi_pooled"] = roi_pool(encoded.tokens, weights)
    return arrays
