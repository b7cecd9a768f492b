"""What the images of a data set are known by, whatever their files look like."""

from concurrent.futures import ThreadPoolExecutor

from medfocus_pipeline.datasets.similarity import (
    Fingerprints,
    fingerprints_of,
    read_fingerprints,
    write_fingerprints,
)
from medfocus_pipeline.errors import ImageError
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.progress import Progress
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.stores import catalog

_READERS = 4


def known_fingerprints(
    context: Context, dataset: Dataset, progress: Progress
) -> tuple[dict[str, Fingerprints], dict[str, str], list[str]]:
    """What the images are known by; those that were not seen yet are looked at, and kept.

    Returns:
        Image id -> hashes, image id -> why it turned out unreadable, and what is to be said.

    Raises:
        StoreError: the disk is full.
    """
    path = context.folder / "fingerprints.parquet"
    known = read_fingerprints(path)
    missing = [image_id for image_id in dataset.files if image_id not in known]
    if missing and not context.data.exists():
        note = f"{context.data} is not here: pixels are compared as far as they were embedded"
        return {**_embedded_pixels(context), **known}, {}, [note]
    problems: dict[str, str] = {}
    if missing:
        fresh, problems = _decode(dataset, missing, progress)
        known |= fresh
        write_fingerprints(path, known)
    return known, problems, []


def _decode(
    dataset: Dataset, image_ids: list[str], progress: Progress
) -> tuple[dict[str, Fingerprints], dict[str, str]]:
    def look(image_id: str) -> Fingerprints | str:
        try:
            return fingerprints_of(dataset.read(image_id))
        except ImageError as error:
            return str(error)

    fresh: dict[str, Fingerprints] = {}
    problems: dict[str, str] = {}
    pool = ThreadPoolExecutor(_READERS, thread_name_prefix="audit")
    try:
        with progress("looking at images", len(image_ids)) as advance:
            for image_id, seen in zip(image_ids, pool.map(look, image_ids), strict=True):
                if isinstance(seen, str):
                    problems[image_id] = seen
                else:
                    fresh[image_id] = seen
                advance(1)
    finally:
        pool.shutdown(cancel_futures=True)
    return fresh, problems


def _embedded_pixels(context: Context) -> dict[str, Fingerprints]:
    """What embedding stores remember of pictures that are not here any more."""
    found: dict[str, Fingerprints] = {}
    for store in catalog.open_stores(context.folder, "embeddings"):
        table = store.index().table()
        if table is not None:
            columns = (table["image_id"].to_pylist(), table["pixel_sha256"].to_pylist())
            pairs = zip(*columns, strict=True)
            found |= {image_id: Fingerprints(pixels, None) for image_id, pixels in pairs}
    return found
