"""``medfocus masks``: segment every image, cache its candidate masks."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from medfocus_pipeline import segmentation
from medfocus_pipeline.config import MasksConfig, Runtime
from medfocus_pipeline.datasets.layout import annotation_paths
from medfocus_pipeline.datasets.readers import read_annotation
from medfocus_pipeline.errors import DamagedError
from medfocus_pipeline.evaluation.annotations import mean_agreement, roi_agreement
from medfocus_pipeline.files import disk_errors
from medfocus_pipeline.sealed import read_json, write_json
from medfocus_pipeline.segmenters import load_segmenter
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import JSON
from stages.filling import fill_shown
from stages.locate import locate_masks
from stages.progress import bar, say, say_problems
from stages.scan import Dataset, open_dataset
from stages.settings import Context

AGREEMENT = "roi_agreement.json"


def run(context: Context, config: MasksConfig, runtime: Runtime, *, strict: bool) -> int:
    """Compute the missing rows of the mask store.

    Returns:
        1 if `strict` and some image cannot be used, else 0.
    """
    if context.data.exists():  # before, so that a killed first run is not forgotten
        context.remember()
    dataset = open_dataset(context)
    problems = dataset.problems
    place = locate_masks(context, dataset, config)
    context.remember(card=dataset.card_path, masks=config)
    store = None if place.missing() else place.store
    if store is None:
        store, late = _compute(context, dataset, config, runtime)
        dataset = dataset.without(context, late)
        problems |= dataset.problems
    else:
        say(f"masks: all {len(dataset.files):,} images are done, nothing to do")
    say(f"store: {store.path}")
    _say_agreement(dataset, store)
    say_problems(problems)
    return int(strict and bool(problems))


def _compute(
    context: Context, dataset: Dataset, config: MasksConfig, runtime: Runtime
) -> tuple[Store, dict[str, str]]:
    place = locate_masks(context, dataset, config, download=True)
    specs, rows = segmentation.array_specs(config), segmentation.SHARD_ROWS
    with place.writing(context.folder, specs, shard_rows=rows) as store:
        segmenter = load_segmenter(config, place.need_weights(), runtime)
        job = partial(segmentation.job, segmenter, config, dataset.read)
        outcome = fill_shown(store, place, job, runtime, what=f"masks with {place.label}")
    table = store.index().table()
    empty = 0 if table is None else sum(count == 0 for count in table["candidates"].to_pylist())
    if empty:
        say(f"{empty:,} images have no candidate: their ROI is the whole image")
    return store, outcome.problems


def _say_agreement(dataset: Dataset, store: Store) -> None:
    """Mean IoU with the annotations; measured again when images or annotations change."""
    annotated = {
        image_id: paths
        for image_id, path in dataset.files.items()
        if (paths := annotation_paths(dataset.root, path, dataset.card))
    }
    if not annotated:
        return
    files = [[str(path), *_stamp(path)] for paths in annotated.values() for path in paths]
    key = digest([sorted(annotated), files, sorted(store.index().done)])
    measured = read_agreement(store)
    if measured.get("key") != key:
        images = _agreements(annotated, store)
        measured = {"key": key, "images": len(images), "mean_iou": mean_agreement(images)}
        with disk_errors(store.path):
            write_json(store.path / AGREEMENT, measured, owner=store.key)
    if measured["images"]:
        say(f"mean IoU of the ROI with the annotations of {measured['images']:,} images:")
        for rule, value in measured["mean_iou"].items():
            say(f"  {rule}: {value:.3f}")


def read_agreement(store: Store) -> JSON:
    """What was measured last; empty if nothing was, or the file is damaged.

    Raises:
        AccessError: it cannot be read now.
    """
    try:
        return read_json(store.path / AGREEMENT, owner=store.key)
    except DamagedError:
        return {}


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _agreements(annotated: Mapping[str, list[Path]], store: Store) -> list[dict[str, float]]:
    reader = segmentation.MaskReader(store)
    found = []
    with bar("comparing with the annotations", len(annotated)) as advance:
        for image_id, paths in annotated.items():
            advance(1)
            if image_id not in reader:
                continue
            annotation = read_annotation(paths, reader.size(image_id))
            if annotation.any():
                found.append(roi_agreement(reader(image_id), annotation))
    return found
