"""What the stores of embeddings hold, read into arrays: features of images, texts of classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.columns import id_array, row_array, whole
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.ids import Lookup
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.text_embedding import text_id
from medfocus_pipeline.types import FeaturePart, FloatArray
from medfocus_pipeline.vectors import class_means, normalise, stacked


def read_features(
    stores: Sequence[Store], focus: Sequence[str], image_ids: Sequence[str]
) -> FloatArray:
    """The features of `vectors.joined` in one array; beside it stands one shard at a time."""
    views, widths = _views_and_widths(stores, focus)
    features = np.empty((len(image_ids), views, sum(widths)), np.float32)
    first = 0
    for store, written, width in zip(stores, focus, widths, strict=True):
        part = features[:, :, first : first + width]
        _read_into(part, store, image_ids, FeaturePart.parse(written).arrays)
        first += width
    return features


def bytes_an_image(stores: Sequence[Store], focus: Sequence[str]) -> int:
    """Bytes that one image has in the features of a table, before any is read.

    Raises:
        StoreError: a store has no such part.
    """
    views, widths = _views_and_widths(stores, focus)
    return views * sum(widths) * np.dtype(np.float32).itemsize


def _views_and_widths(stores: Sequence[Store], focus: Sequence[str]) -> tuple[int, list[int]]:
    """The views of a table, and how wide each part is."""
    names = [FeaturePart.parse(part).arrays for part in focus]
    widths = [
        sum(_row_shape(store, name, part)[-1] for name in arrays)
        for store, part, arrays in zip(stores, focus, names, strict=True)
    ]
    return _row_shape(stores[0], names[0][-1], focus[0])[0], widths


def _row_shape(store: Store, name: str, part: str) -> tuple[int, ...]:
    try:
        return store.row_shape(name)
    except KeyError:
        raise StoreError(
            f"Embedding store {store.path.name} has no {name}, so no {part}: the encoder has no "
            "maps to pool. Leave that part out, or use another encoder: medfocus models list."
        ) from None


def _read_into(
    target: FloatArray, store: Store, image_ids: Sequence[str], names: Sequence[str]
) -> None:
    """Write one part of the features of some images where it belongs, a shard at a time.

    Shards that hold none of them are not read; every other one is checked while it is.

    Args:
        target: ``(n, v, d) float32``, a row for each id.
        names: of the part's arrays.
    """
    index = store.index(columns=["image_id"])
    found = Lookup(index.ids.combine_chunks())(id_array(image_ids))
    missing = np.count_nonzero(found < 0)
    if missing:
        raise StoreError(
            f"Embedding store {store.path.name} lacks {missing:,} of "
            f"{len(image_ids):,} images. Run: make embed"
        )
    order = np.argsort(found, kind="stable")
    ranked, first = found[order], 0
    for part in index.parts.values():
        end = first + part.table.num_rows
        wanted = order[slice(*np.searchsorted(ranked, (first, end)))]
        if len(wanted):
            shard, rows = store.read(part, names=names), found[wanted] - first
            target[wanted] = normalise(stacked([shard[name][rows] for name in names]))
        first = end


def _rows(store: Store, name: str) -> dict[str, NDArray[Any]]:
    """Id -> row of one array; every shard is checked while it is read."""
    found: dict[str, NDArray[Any]] = {}
    for part in store.index().parts.values():
        found |= zip(part.image_ids, store.read(part, names=[name])[name], strict=True)
    return found


def pixel_hashes(store: Store, image_ids: Sequence[str]) -> list[str]:
    """SHA-256 of the decoded pixels of some images; empty of a store without rows."""
    table = store.index(columns=["image_id", "pixel_sha256"]).table()
    if table is None:
        return []
    found = Lookup(whole(table["image_id"]))(id_array(image_ids))
    hashes: list[str] = table["pixel_sha256"].take(row_array(found)).to_pylist()
    return hashes


def plain_rows(store: Store) -> dict[str, FloatArray]:
    """Id -> ``(d,) float32`` of the picture as it is, L2-normalised; of the first view without.

    Raises:
        StoreError: a shard is corrupt.
    """
    views = list(store.recipe.config["views"])
    view = views.index("identity") if "identity" in views else 0
    return {
        image_id: normalise(pooled[view].astype(np.float32))
        for image_id, pooled in _rows(store, "pooled").items()
    }


def class_texts(store: Store, prompts: Sequence[Sequence[str]]) -> FloatArray:
    """Text features of the classes: L2-normalised mean over each class's normalised prompts.

    Args:
        store: the encoder's text store; it has every prompt.
        prompts: texts of each of the K classes.

    Returns:
        ``(K, d_text) float32``, L2-normalised.

    Raises:
        StoreError: a prompt was not embedded yet, or a shard is corrupt.
    """
    rows = _rows(store, "pooled")
    try:
        return class_means(np.stack([rows[text_id(text)] for text in texts]) for texts in prompts)
    except KeyError:
        raise StoreError(
            f"Text store {store.path.name} lacks some of the class prompts. Run: make embed"
        ) from None


def text_temperature(store: Store) -> float | None:
    """Temperature of the encoder of a text store; None of an empty one."""
    table = store.index().table()
    return None if table is None else float(table["temperature"][0].as_py())
