"""The feature table: the only join of manifest, splits, embeddings and class texts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.columns import id_array, places, row_array, whole
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.splits import Split, connected
from medfocus_pipeline.embedding import text_id
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import FeaturePart, FloatArray, FocusMode, IntArray

if TYPE_CHECKING:
    from medfocus_pipeline.encoders.prompt_tower import PromptSource


@dataclass(frozen=True, slots=True)
class FeatureKeys:
    """What a feature table was made from, as the results table names it.

    Attributes:
        segmenter: name of the segmenter, also where no focus mode needs one.
        roi: the ROI rule.
        focus: the parts as they are written, in the order in which they are joined.
        encoder: the encoder's readable name.
        masks_key: key of the mask store; None where no focus mode needs a mask.
        embed_keys: keys of the embedding stores, one for each part of `focus`.
        text_key: key of the class texts (encoder's weights and prompts); None without them.
        prompt_key: key of the text tower and the classes' phrases; None without a tower.
    """

    segmenter: str
    roi: str
    focus: tuple[str, ...]
    encoder: str
    masks_key: str | None
    embed_keys: tuple[str, ...]
    text_key: str | None
    prompt_key: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """Features of all n usable images of a data set, row by row with their labels.

    Attributes:
        dataset: name of the data set.
        image_ids: n image ids.
        paths: n paths, relative to the data set's root.
        labels: ``(n,) int64``, index into `classes`.
        classes: names of the K classes.
        features: ``(n, v, D) float32``, v views; each part is L2-normalised before the parts
            are joined along D.
        text: ``(K, d_text) float32``, L2-normalised class texts; None without a text tower.
        train: ``(n_train,) int64``, positions of the training images.
        test: ``(n_test,) int64``, positions of the test images.
        clean: ``(n_test,) bool``, the test image is not also among the training images.
        keys: what the table was made from.
        temperature: see `TrainingSet`.
        prompts: see `TrainingSet`.
        groups: ``(n,) int64``, images of one patient, of equal bytes or of equal pixels have one
            number; None where each image is for itself.
    """

    dataset: str
    image_ids: tuple[str, ...]
    paths: tuple[str, ...]
    labels: IntArray
    classes: tuple[str, ...]
    features: FloatArray
    text: FloatArray | None
    train: IntArray
    test: IntArray
    clean: NDArray[np.bool_]
    keys: FeatureKeys
    temperature: float | None = None
    prompts: "PromptSource | None" = None
    groups: IntArray | None = None


def join(
    manifest: Manifest,
    split: Split,
    stores: Sequence[Store],
    *,
    text: FloatArray | None,
    keys: FeatureKeys,
    temperature: float | None = None,
    prompts: "PromptSource | None" = None,
) -> FeatureTable:
    """Join labels, split, embeddings and texts by image id.

    Args:
        stores: embedding stores, one for each part of `keys.focus`; their features are joined.
        text: ``(K, d_text) float32`` class texts, or None.
        temperature, prompts: of the encoder, see `FeatureTable`.

    Returns:
        A table of the split's images, in manifest order.

    Raises:
        StoreError: an image has no embedding, or the stores do not belong together.
    """
    _check_alike(stores)
    rows = np.sort(np.concatenate([split.train, split.test]))
    image_ids = manifest.image_ids
    ids = [image_ids[row] for row in rows]
    features = _read(stores, keys.focus, ids)
    pixels = _pixel_hashes(stores[0], ids)
    for store in stores[1:]:
        if _pixel_hashes(store, ids) != pixels:
            raise StoreError(
                f"Embedding stores {stores[0].path.name} and {store.path.name} saw different "
                "pixels of the same images. Remove them, then run: make embed"
            )
    return _table(manifest, split, rows, pixels, features, text, keys, temperature, prompts)


def unembedded(
    manifest: Manifest, split: Split, pixels: Mapping[str, str], keys: FeatureKeys
) -> FeatureTable:
    """A table without features, of runs that look at the pictures themselves.

    Args:
        pixels: image id -> SHA-256 of its decoded pixels.
        keys: what the pictures are of.

    Returns:
        As `join`; `features` is ``(n, 0, 0)``.
    """
    rows = np.sort(np.concatenate([split.train, split.test]))
    image_ids = manifest.image_ids
    known = [pixels[image_ids[row]] for row in rows]
    return _table(manifest, split, rows, known, np.zeros((len(rows), 0, 0), np.float32), None, keys)


def _table(
    manifest: Manifest,
    split: Split,
    rows: IntArray,
    pixels: list[str],
    features: FloatArray,
    text: FloatArray | None,
    keys: FeatureKeys,
    temperature: float | None = None,
    prompts: "PromptSource | None" = None,
) -> FeatureTable:
    """Features of some rows of the manifest with all that is known of them."""
    image_ids, paths, patients = manifest.image_ids, manifest.paths, manifest.strings("group")
    ids = [image_ids[row] for row in rows]
    train = np.flatnonzero(np.isin(rows, split.train))
    test = np.flatnonzero(np.isin(rows, split.test))
    seen = {ids[row] for row in train} | {pixels[row] for row in train}
    return FeatureTable(
        dataset=manifest.name,
        image_ids=tuple(ids),
        paths=tuple(paths[row] for row in rows),
        labels=manifest.labels[rows],
        classes=manifest.classes,
        features=features,
        text=text,
        train=train,
        test=test,
        clean=np.array([not {ids[row], pixels[row]} & seen for row in test], np.bool_),
        keys=keys,
        temperature=temperature,
        prompts=prompts,
        groups=connected([ids, pixels, [patients[row] for row in rows]]),
    )


def _check_alike(stores: Sequence[Store]) -> None:
    """Refuse stores of different encoders, views or masks: their rows say different things."""
    first = stores[0].recipe
    for store in stores[1:]:
        recipe = store.recipe
        same_model = recipe.model == first.model and recipe.config["views"] == first.config["views"]
        if not same_model:
            raise StoreError(
                f"Embedding stores {stores[0].path.name} and {store.path.name} are of different "
                "encoders or views. Run make embed for both."
            )
    masked = {store.recipe.upstream: store for store in stores if store.recipe.upstream}
    if len(masked) > 1:
        built = ", ".join(f"{one.path.name} from masks {key[:8]}" for key, one in masked.items())
        raise StoreError(
            f"Embedding stores were built from different masks: {built}. Run: make embed"
        )


def focus_modes(parts: Iterable[FeaturePart]) -> list[FocusMode]:
    """The focus modes among parts of features, each once, in order."""
    return list(dict.fromkeys(part.focus for part in parts))


def joined(parts: Sequence[Sequence[NDArray[Any]]]) -> FloatArray:
    """Features of embeddings as the stores keep them: each part L2-normalised, then joined.

    A part of several arrays is the levels, the mean over the views of what had length 1, beside
    the embedding of each view, which is brought to it.

    Args:
        parts: for each part the ``(n, v, d_i) float16`` of its `FeaturePart.arrays`; an array of
            one view stands beside each view of the others.

    Returns:
        ``(n, v, sum of d_i) float32``.
    """
    return np.concatenate([normalise(_stacked(arrays)) for arrays in parts], axis=2)


def _stacked(arrays: Sequence[NDArray[Any]]) -> FloatArray:
    """The arrays of one part side by side, the last of several L2-normalised."""
    *levels, top = (rows.astype(np.float32) for rows in arrays)
    if not levels:
        return top
    beside = [np.broadcast_to(level, (*top.shape[:2], level.shape[2])) for level in levels]
    return np.concatenate([*beside, normalise(top)], axis=2)


def _read(stores: Sequence[Store], focus: Sequence[str], image_ids: Sequence[str]) -> FloatArray:
    """The features of `joined`, read into one array; beside it stands one shard at a time."""
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
    found = places(id_array(image_ids), index.ids.combine_chunks())
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
            target[wanted] = normalise(_stacked([shard[name][rows] for name in names]))
        first = end


def _rows(store: Store, name: str) -> dict[str, NDArray[Any]]:
    """Id -> row of one array; every shard is checked while it is read."""
    found: dict[str, NDArray[Any]] = {}
    for part in store.index().parts.values():
        found |= zip(part.image_ids, store.read(part, names=[name])[name], strict=True)
    return found


def _pixel_hashes(store: Store, image_ids: Sequence[str]) -> list[str]:
    table = store.index(columns=["image_id", "pixel_sha256"]).table()
    if table is None:
        return []
    found = places(id_array(image_ids), whole(table["image_id"]))
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
        means = [
            normalise(np.stack([rows[text_id(text)] for text in texts])).mean(axis=0)
            for texts in prompts
        ]
    except KeyError:
        raise StoreError(
            f"Text store {store.path.name} lacks some of the class prompts. Run: make embed"
        ) from None
    return normalise(np.stack(means))


def text_temperature(store: Store) -> float | None:
    """Temperature of the encoder of a text store; None of an empty one."""
    table = store.index().table()
    return None if table is None else float(table["temperature"][0].as_py())


def normalise(rows: FloatArray) -> FloatArray:
    """L2-normalise along the last axis; a row of zeros stays one."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: FloatArray = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    return unit
