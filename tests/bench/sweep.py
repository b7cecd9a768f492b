"""The sweep of stage two on made-up features of the real size."""

import time

import numpy as np

from medfocus_pipeline.columns import id_array
from medfocus_pipeline.config import FusionConfig, HeadConfig, LinearConfig, ProbeConfig
from medfocus_pipeline.devices import cores
from medfocus_pipeline.evaluation.draws import Labelled, draw
from medfocus_pipeline.evaluation.processes import processes
from medfocus_pipeline.evaluation.runs import plan_runs
from medfocus_pipeline.evaluation.sweep import sweep
from medfocus_pipeline.features import FeatureKeys, FeatureTable
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import JSON
from medfocus_pipeline.vectors import normalise

_CLASSES = ("a", "b", "c", "d")
_DIM = 1280
_VIEWS = 3
_NOISE = 3.0


def measure(*, images: int, seeds: int) -> JSON:
    """Seconds of `linear` on one focus mode and of `fusion` on two joined.

    Args:
        images: of which three in eleven test, as in the sample of the brain data set.
        seeds: for each of 5 fractions.
    """
    config = ProbeConfig(seeds=seeds)
    figures: JSON = {"images": images, "seeds": seeds, "workers": cores()}
    heads: tuple[tuple[HeadConfig, int], ...] = ((LinearConfig(), 1), (FusionConfig(), 2))
    for head, parts in heads:
        table = _features(images, parts)
        train, test = (
            Labelled(id_array([table.image_ids[row] for row in rows]), table.labels[rows])
            for rows in (table.train, table.test)
        )
        runs = plan_runs(head, table.keys, draw(config, train=train, test=test))
        started = time.perf_counter()
        with processes(cores()) as within:
            for _ in sweep(table, runs, within=within):
                pass
        figures[f"{head.name}_seconds"] = time.perf_counter() - started
        figures[f"{head.name}_runs"] = len(runs)
    return figures


def _features(images: int, parts: int) -> FeatureTable:
    rng = generator("bench", images, parts)
    labels = np.arange(images, dtype=np.int64) % len(_CLASSES)
    centres = rng.normal(size=(len(_CLASSES), 1, parts * _DIM))
    noise = rng.normal(size=(images, _VIEWS, parts * _DIM))
    features = normalise((centres[labels] + _NOISE * noise).astype(np.float32))
    test = np.flatnonzero(np.arange(images) % 11 < 3)
    return FeatureTable(
        dataset="bench",
        image_ids=tuple(f"{number:06d}" for number in range(images)),
        paths=("",) * images,
        labels=labels,
        classes=_CLASSES,
        features=features,
        text=None,
        train=np.setdiff1d(np.arange(images), test),
        test=test,
        clean=np.ones(len(test), np.bool_),
        keys=FeatureKeys("none", "none", ("original",) * parts, "bench", None, ("",) * parts, None),
    )
