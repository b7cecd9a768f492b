"""How well the regions match those that somebody drew: measured once, kept beside the masks."""

from collections.abc import Mapping
from pathlib import Path

from medfocus_pipeline.datasets.annotation_files import AnnotationFiles
from medfocus_pipeline.datasets.readers import read_annotation
from medfocus_pipeline.errors import DamagedError
from medfocus_pipeline.evaluation.annotations import mean_agreement, roi_agreement
from medfocus_pipeline.files import disk_errors
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.progress import Progress
from medfocus_pipeline.sealed import read_json, write_json
from medfocus_pipeline.segmentation import MaskReader
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import JSON

AGREEMENT = "roi_agreement.json"


def measure_agreement(dataset: Dataset, store: Store, progress: Progress) -> JSON:
    """Mean IoU of each ROI rule with the annotations.

    It is measured again when images or annotations change.

    Args:
        store: of masks.
        progress: of the images.

    Returns:
        `images` (int) and `mean_iou` (rule -> float in [0, 1]); empty without annotations.
    """
    if not dataset.card.annotation:
        return {}
    files = AnnotationFiles(dataset.root, dataset.card)
    annotated = {
        image_id: paths for image_id, path in dataset.files.items() if (paths := files.of(path))
    }
    if not annotated:
        return {}
    stamps = [[str(path), *_stamp(path)] for paths in annotated.values() for path in paths]
    key = digest([sorted(annotated), stamps, sorted(store.index(columns=["image_id"]).done)])
    measured = read_agreement(store)
    if measured.get("key") != key:
        images = _agreements(annotated, store, progress)
        measured = {"key": key, "images": len(images), "mean_iou": mean_agreement(images)}
        with disk_errors(store.path):
            write_json(store.path / AGREEMENT, measured, owner=store.key)
    return measured


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


def _agreements(
    annotated: Mapping[str, list[Path]], store: Store, progress: Progress
) -> list[dict[str, float]]:
    reader = MaskReader(store)
    found = []
    with progress("comparing with the annotations", len(annotated)) as advance:
        for image_id, paths in annotated.items():
            advance(1)
            if image_id not in reader:
                continue
            annotation = read_annotation(paths, reader.size(image_id))
            if annotation.any():
                found.append(roi_agreement(reader(image_id), annotation))
    return found
