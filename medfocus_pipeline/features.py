"""The feature table: the only join of manifest, splits, embeddings and class texts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.splits import Split, connected
from medfocus_pipeline.embedded import pixel_hashes, read_features
from medfocus_pipeline.encoders.prompt_tower import PromptSource
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import FeaturePart, FloatArray, FocusMode, IntArray


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
    prompts: PromptSource | None = None
    groups: IntArray | None = None


def join(
    manifest: Manifest,
    split: Split,
    stores: Sequence[Store],
    *,
    text: FloatArray | None,
    keys: FeatureKeys,
    temperature: float | None = None,
    prompts: PromptSource | None = None,
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
    rows = rows_of(split)
    ids = _ids(manifest, rows)
    features = read_features(stores, keys.focus, ids)
    pixels = pixel_hashes(stores[0], ids)
    for store in stores[1:]:
        if pixel_hashes(store, ids) != pixels:
            raise StoreError(
                f"Embedding stores {stores[0].path.name} and {store.path.name} saw different "
                "pixels of the same images. Remove them, then run: make embed"
            )
    table = _table(manifest, split, rows, ids, pixels, keys)
    return replace(table, features=features, text=text, temperature=temperature, prompts=prompts)


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
    rows = rows_of(split)
    ids = _ids(manifest, rows)
    return _table(manifest, split, rows, ids, [pixels[image_id] for image_id in ids], keys)


def _table(
    manifest: Manifest,
    split: Split,
    rows: IntArray,
    ids: list[str],
    pixels: list[str],
    keys: FeatureKeys,
) -> FeatureTable:
    paths, patients = manifest.paths, manifest.strings("group")
    train = np.flatnonzero(np.isin(rows, split.train))
    test = np.flatnonzero(np.isin(rows, split.test))
    seen = {ids[row] for row in train} | {pixels[row] for row in train}
    return FeatureTable(
        dataset=manifest.name,
        image_ids=tuple(ids),
        paths=tuple(paths[row] for row in rows),
        labels=manifest.labels[rows],
        classes=manifest.classes,
        features=np.zeros((len(rows), 0, 0), np.float32),
        text=None,
        train=train,
        test=test,
        clean=np.array([not {ids[row], pixels[row]} & seen for row in test], np.bool_),
        keys=keys,
        groups=connected([ids, pixels, [patients[row] for row in rows]]),
    )


def rows_of(split: Split) -> IntArray:
    """Rows of the manifest that a table is of, in their order, ``(n,) int64``."""
    return np.sort(np.concatenate([split.train, split.test]))


def _ids(manifest: Manifest, rows: IntArray) -> list[str]:
    image_ids = manifest.image_ids
    return [image_ids[row] for row in rows]


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
