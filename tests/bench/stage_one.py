"""Stage one against its bare model: both in one process, in turn, several times.

The bare model runs on preloaded inputs, as many calls at a time as the stage makes. The stage
reads, decodes, prepares, runs the model, compresses, writes and indexes; starting Python and
loading weights is in neither.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medfocus_pipeline import embedding, segmentation
from medfocus_pipeline.config import (
    EfficientNetLiteConfig,
    EmbedConfig,
    EncoderConfig,
    LiteClipConfig,
    MasksConfig,
    Runtime,
    Sam2Config,
    ThresholdConfig,
)
from medfocus_pipeline.datasets.readers import read_image
from medfocus_pipeline.devices import calls_at_once
from medfocus_pipeline.encoders import find_weights, load_encoder
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.sam.sam2 import random_model
from medfocus_pipeline.segmenters.protocol import Segmenter
from medfocus_pipeline.segmenters.sam2_segmenter import Sam2Segmenter
from medfocus_pipeline.segmenters.threshold import load as load_threshold
from medfocus_pipeline.stores.catalog import size_of
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.job import Block, Job, compute_all
from medfocus_pipeline.stores.keys import Recipe
from medfocus_pipeline.stores.opening import ArraySpec, create
from medfocus_pipeline.types import JSON, Candidates, ModelIdentity
from medfocus_pipeline.weights import FileHashes, Weights
from tests.bench.pictures import write_pictures
from tests.peaks import peak_megabytes

_SIDE = 224
_SAM2_SIDE = 640


def embeddings(folder: Path, *, images: int, repeats: int) -> JSON:
    """EfficientNet-Lite0 with three views, focus `original`."""
    config = EmbedConfig(encoder=EfficientNetLiteConfig(), focus="original")
    weights = find_weights(config.encoder, FileHashes(), download=False)
    if weights is None:
        raise ValueError("the weights are in a package that MedFocus depends on")
    encoder = load_encoder(config.encoder, weights, Runtime())
    paths = _paths(folder, images, _SIDE)
    recipe = embedding.recipe(config, weights.identity, masks=None, prompts=())
    specs = embedding.array_specs(config, encoder)
    with calls_at_once("auto") as calls:
        job = embedding.job(
            encoder,
            config,
            lambda name: read_image(paths[name]),
            None,
            batch_size=None,
            workers=2,
            calls=calls,
        )
        bare = _bare(lambda batch: embedding.encode(batch, encoder), job, list(paths))
        stage = _Stage(folder / "embeddings", recipe, specs, embedding.SHARD_ROWS, list(paths), job)
        return _compare(bare, stage, images, repeats)


def parts(folder: Path, *, images: int, repeats: int) -> JSON:
    """Every feature part of an image and its region, against `pooled` of the image alone.

    Both sides decode, prepare and run the network once; candidates are in memory.
    """
    paths = _paths(folder, images, _SIDE)
    masks = MasksConfig(segmenter=ThresholdConfig())
    segmenter = load_threshold(masks, Weights(ModelIdentity("threshold"), {}), Runtime())
    pictures = {name: read_image(path) for name, path in paths.items()}
    found = dict(zip(paths, segmenter.segment(list(pictures.values())), strict=True))
    return {
        encoder.name: _parts(encoder, paths, found.__getitem__, repeats)
        for encoder in (EfficientNetLiteConfig(), LiteClipConfig())
    }


def _parts(
    encoder: EncoderConfig,
    paths: Mapping[str, Path],
    candidates: Callable[[str], Candidates],
    repeats: int,
) -> JSON:
    weights = find_weights(encoder, FileHashes(), download=False)
    if weights is None:
        raise ValueError("the weights are in packages that MedFocus depends on")
    network = load_encoder(encoder, weights, Runtime())
    ids = list(paths)

    def whole(config: EmbedConfig, found: Callable[[str], Candidates] | None) -> None:
        job = embedding.job(
            network, config, lambda name: read_image(paths[name]), found, batch_size=None, workers=2
        )
        if found is None:
            job = replace(job, compute=partial(_pooled_alone, network))
        compute_all(job, [job.load(id_) for id_ in ids])

    config = EmbedConfig(encoder=encoder, focus="original", roi_parts=True)
    sides = (
        partial(whole, config.model_copy(update={"roi_parts": False}), None),
        partial(whole, config, candidates),
    )
    for side in sides:
        side()
    pairs = [(seconds_of(sides[0]), seconds_of(sides[1])) for _ in range(repeats)]
    return {
        "pooled_seconds": statistics.median(pair[0] for pair in pairs),
        "all_parts_seconds": statistics.median(pair[1] for pair in pairs),
        "all_parts_over_pooled": statistics.median(pair[1] / pair[0] for pair in pairs),
    }


def _pooled_alone(encoder: Encoder, batch: Sequence[embedding.Prepared]) -> Block:
    rows = encoder.encode(np.concatenate([one.pictures for one in batch])).pooled
    return Block({"pooled": rows.astype(np.float16)}, {})


def masks_threshold(folder: Path, *, images: int, repeats: int) -> JSON:
    """The no-learning segmenter."""
    config = MasksConfig(segmenter=ThresholdConfig())
    segmenter = load_threshold(config, Weights(ModelIdentity("threshold"), {}), Runtime())
    return _masks(folder, config, segmenter, images=images, side=_SIDE, repeats=repeats)


def masks_sam2(folder: Path, *, images: int, repeats: int) -> JSON:
    """SAM 2.1 tiny with random weights, 64 adaptive prompts, bf16."""
    sam2 = Sam2Config(size="tiny", min_score=0, min_stability=0)
    config = MasksConfig(segmenter=sam2)
    segmenter = Sam2Segmenter(
        random_model(sam2.size, seed=0),
        sam2,
        max_candidates=config.max_candidates,
        frame=config.frame,
    )
    return _masks(folder, config, segmenter, images=images, side=_SAM2_SIDE, repeats=repeats)


def _masks(
    folder: Path,
    config: MasksConfig,
    segmenter: Segmenter,
    *,
    images: int,
    side: int,
    repeats: int,
) -> JSON:
    paths = _paths(folder, images, side)
    recipe = segmentation.recipe(config, ModelIdentity("bench"))
    specs = segmentation.array_specs(config)
    name = f"masks-{config.segmenter.name}"
    with calls_at_once("auto") as calls:
        job = segmentation.job(
            segmenter,
            config,
            lambda name: read_image(paths[name]),
            batch_size=None,
            workers=2,
            calls=calls,
        )
        bare = _bare(segmenter.segment, job, list(paths))
        stage = _Stage(folder / name, recipe, specs, segmentation.SHARD_ROWS, list(paths), job)
        return _compare(bare, stage, images, repeats)


def _bare(
    call: Callable[[Any], Any], job: Job[Any], ids: Sequence[str]
) -> Callable[[], Sequence[object]]:
    """The model alone, on inputs that are loaded already."""
    ready = [job.load(id_) for id_ in ids]
    return partial(compute_all, replace(job, compute=call), ready)


class _Stage:
    """A whole stage, each time into a new store."""

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        specs: Sequence[ArraySpec],
        shard_rows: int,
        ids: list[str],
        job: Job[Any],
    ) -> None:
        self._new = (folder / f"store-{number}" for number in itertools.count())
        self._recipe, self._specs, self._shard_rows = recipe, specs, shard_rows
        self._ids, self._job = ids, job
        self.last = folder

    def __call__(self) -> None:
        self.last = next(self._new)
        store = create(self.last, self._recipe, self._specs, shard_rows=self._shard_rows)
        fill(store, self._ids, self._job)


def _compare(bare: Callable[[], object], stage: _Stage, images: int, repeats: int) -> JSON:
    bare()  # warm: caches, autotuning, thread pools
    pairs = [(seconds_of(bare), seconds_of(stage)) for _ in range(repeats)]
    wall = statistics.median(pair[1] for pair in pairs)
    return {
        "images": images,
        "bare_model_seconds": statistics.median(pair[0] for pair in pairs),
        "stage_seconds": wall,
        "stage_over_bare": statistics.median(pair[1] / pair[0] for pair in pairs),
        "images_per_second": images / wall,
        "bytes_per_image": size_of(stage.last) / images,
        "peak_memory_megabytes": peak_megabytes(),
    }


def seconds_of(work: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _paths(folder: Path, images: int, side: int) -> dict[str, Path]:
    root = write_pictures(folder / f"pictures-{side}-{images}", images=images, side=side)
    return {str(path): path for path in sorted(root.rglob("*.jpg"))}
