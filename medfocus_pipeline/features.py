"""The feature table: the only join of manifest, splits, embeddings and class texts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class FeatureKeys:
    """What a feature table was made from, as the results table names it.

    Attributes:
        segmenter: name of the segmenter, also where no focus mode needs one.
        roi: the ROI rule.
        focus: focus modes in the order in which their features are joined.
        encoder: the encoder's readable name.
        masks_key: key of the mask store; None where no focus mode needs a mask.
        embed_keys: keys of the embedding stores, in the order of `focus`.
        text_key: key of the class texts (encoder's weights and prompts); None without them.
    """

    segmenter: str
    roi: str
    focus: tuple[str, ...]
    encoder: str
    masks_key: str | None
    embed_keys: tuple[str, ...]
    text_key: str | None


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """Features of all n usable images of a data set, row by row with their labels.

    Attributes:
        dataset: name of the data set.
        image_ids: n image ids.
        paths: n paths, relative to the data set's root.
        labels: ``(n,) int64``, index into `classes`.
        classes: names of the K classes.
        features: ``(n, v, D) float32``, v views; each focus mode's part is L2-normalised
            before the parts are joined along D.
        text: ``(K, d_text) float32``, L2-normalised class texts; None without a text tower.
        train: ``(n_train,) int64``, positions of the training images.
        test: ``(n_test,) int64``, positions of the test images.
        clean: ``(n_test,) bool``, the test image is not also among the training images.
        keys: what the table was made from.
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
