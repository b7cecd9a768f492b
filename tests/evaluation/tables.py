"""Feature tables of classes that lie apart, without any store."""

from dataclasses import replace

import numpy as np

from medfocus_pipeline.columns import id_array
from medfocus_pipeline.evaluation.draws import Labelled
from medfocus_pipeline.features import FeatureKeys, FeatureTable
from medfocus_pipeline.vectors import normalise

KEYS = FeatureKeys(
    segmenter="threshold",
    roi="best",
    focus=("original", "segmented"),
    encoder="fake",
    masks_key="m" * 64,
    embed_keys=("a" * 64, "b" * 64),
    text_key="t" * 64,
)


def make_table(
    *, train: int = 12, test: int = 6, classes: int = 3, text: bool = True, seed: int = 0
) -> FeatureTable:
    """`train` and `test` images a class, two views, D = 6; the last test image is not clean."""
    rng = np.random.default_rng(seed)
    count = classes * (train + test)
    labels = np.arange(count) % classes
    centres = np.eye(classes, 6)
    views = centres[labels][:, None] + rng.normal(0, 0.5, (count, 2, 6))
    clean = np.ones(classes * test, np.bool_)
    clean[-1] = False
    return FeatureTable(
        dataset="fake",
        image_ids=tuple(f"id-{rng.integers(10**9):09d}-{row}" for row in range(count)),
        paths=tuple(f"class {label}/{row}.png" for row, label in enumerate(labels)),
        labels=labels,
        classes=tuple(f"class {label}" for label in range(classes)),
        features=normalise(views.astype(np.float32)),
        text=normalise(centres.astype(np.float32)) if text else None,
        train=np.arange(classes * train),
        test=np.arange(classes * train, count),
        clean=clean,
        keys=KEYS if text else replace(KEYS, text_key=None),
    )


def side(table: FeatureTable, rows: np.ndarray) -> Labelled:
    """One side of the split, as the runs are planned for it."""
    return Labelled(id_array([table.image_ids[row] for row in rows]), table.labels[rows])
