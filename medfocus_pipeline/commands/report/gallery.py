"""The mask gallery of a report: some images of each class, then the worst ones."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from medfocus_pipeline.commands.output import bar
from medfocus_pipeline.commands.report.opened import Opened
from medfocus_pipeline.commands.report.tiles import Tiles, percent
from medfocus_pipeline.embedding import out_of_sight
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.masks.roi import choose_roi, iou
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.regions import Regions
from medfocus_pipeline.report.content import Gallery, Tile
from medfocus_pipeline.report.sampling import Share, extreme, in_turn
from medfocus_pipeline.stores.store import Store

_COMPARED = 400
"""Images at most whose regions are compared with their annotations."""

_BY_HASH = "in the order of their SHA-256, which says nothing about an image"


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """What is known of every image without drawing it.

    Attributes:
        areas: image id -> share of the image that the ROI is; without fallbacks.
        fallbacks: ids of images whose ROI is the whole image for want of a candidate.
        scores: image id -> score of the best candidate.
        agreement: image id -> IoU of the ROI with the annotation, of some annotated images.
        sampled: whether there may be more annotated ones.
        out_of_sight: number of ROIs of which the encoder saw less than half.
    """

    areas: Mapping[str, float]
    fallbacks: Sequence[str]
    scores: Mapping[str, float]
    agreement: Mapping[str, float]
    sampled: bool
    out_of_sight: int = 0


def survey(opened: Opened) -> Survey:
    """Look through the index of the embeddings, the scores of the masks, some annotations.

    Raises:
        StoreError: a store is corrupt.
    """
    dataset, masks, regions = opened.dataset, opened.masks, opened.regions
    table = opened.embedded.index().table()
    if table is None or masks is None:
        return Survey({}, [], {}, {}, sampled=False)
    names = ("image_id", "fallback", "roi_area")
    rows = [
        row
        for row in zip(*(table[name].to_pylist() for name in names), strict=True)
        if row[0] in dataset.files
    ]
    agreement, sampled = _agreement(dataset, masks, regions) if regions else ({}, False)
    return Survey(
        out_of_sight=out_of_sight(opened.embedded),
        areas={id_: area for id_, fallback, area in rows if not fallback},
        fallbacks=sorted(id_ for id_, fallback, _ in rows if fallback),
        scores=_scores(dataset, masks) if regions else {},
        agreement=agreement,
        sampled=sampled,
    )


def class_galleries(dataset: Dataset, tiles: Tiles, share: Share) -> list[Gallery]:
    """Some images of each class; of very many classes, some have none."""
    labels = label_indices(dataset)
    names = dataset.manifest.classes
    chosen: dict[int, list[Tile]] = {}
    for image_id in in_turn(labels, share.galleries):
        tile = tiles.tile(image_id)
        if tile is not None:
            chosen.setdefault(labels[image_id], []).append(tile)
    found = []
    for index, own in sorted(chosen.items()):
        total = sum(label == index for label in labels.values())
        note = f"{len(own):,} of {total:,} images, {_BY_HASH}."
        found.append(Gallery(names[index], note, own))
    if found and len(chosen) < len(names):
        left = len(names) - len(chosen)
        found.append(Gallery("Other classes", f"{left:,} more classes are not shown.", []))
    return found


def worst_galleries(survey_: Survey, tiles: Tiles, share: Share) -> list[Gallery]:
    """Images whose regions went wrong, or may have."""
    total = len(survey_.areas) + len(survey_.fallbacks)
    fallbacks = survey_.fallbacks[: share.worst]
    count, drawn = len(survey_.fallbacks), _drawn(tiles, fallbacks)
    note = f"{count:,} of {total:,} images have no usable candidate: the encoder saw all of them."
    found = [Gallery("Fallbacks", f"{note} {len(drawn):,} are shown." if count else note, drawn)]
    found[0] = found[0] if count else Gallery("Fallbacks", "No image fell back.", [])
    areas, scores = survey_.areas, survey_.scores
    span = f"from {percent(min(areas.values()))} to {percent(max(areas.values()))}" if areas else ""
    kinds: list[tuple[str, str, Mapping[str, float], bool]] = [
        ("Smallest regions", f"ROI areas run {span}.", areas, True),
        ("Largest regions", f"ROI areas run {span}; fallbacks are not counted.", areas, False),
        ("Lowest scores", "By the segmenter's score of the best candidate.", scores, True),
        ("Lowest agreement", _agreed(survey_), survey_.agreement, True),
    ]
    for title, note, values, lowest in kinds:
        own = _drawn(tiles, [id_ for id_, _ in extreme(values, share.worst, lowest=lowest)])
        if own:
            found.append(Gallery(title, f"{len(own):,} of {len(values):,} images. {note}", own))
    return found


def label_indices(dataset: Dataset) -> dict[str, int]:
    """Usable image id -> class index; of copies under two labels, that of the first file."""
    manifest = dataset.manifest
    ids, labels = manifest.image_ids, manifest.labels
    return {ids[row]: int(labels[row]) for row in reversed(manifest.usable.tolist())}


def _agreed(survey_: Survey) -> str:
    values = list(survey_.agreement.values())
    mean = sum(values) / max(len(values), 1)
    sample = ", a sample" if survey_.sampled else ""
    return f"Mean IoU of ROI and annotation: {mean:.2f}, over {len(values):,} images{sample}."


def _drawn(tiles: Tiles, ids: Sequence[str]) -> list[Tile]:
    return [tile for tile in map(tiles.tile, ids) if tile is not None]


def _scores(dataset: Dataset, masks: Store) -> dict[str, float]:
    """Image id -> highest score of a candidate; images without one are left out."""
    table = masks.index().table()
    if table is None:
        return {}
    pairs = zip(table["image_id"].to_pylist(), table["score"].to_pylist(), strict=True)
    return {id_: max(scores) for id_, scores in pairs if scores and id_ in dataset.files}


def _agreement(dataset: Dataset, masks: Store, regions: Regions) -> tuple[dict[str, float], bool]:
    """IoU with the annotation, and whether that is of a sample."""
    found: dict[str, float] = {}
    # With similarities, each image would need the encoder again.
    if dataset.card.annotation is None or regions.similarity is not None:
        return found, False
    chosen = in_turn(label_indices(dataset), _COMPARED)
    with bar("comparing with the annotations", len(chosen)) as advance:
        for image_id in _stored_order(masks, chosen):
            found |= _overlap(regions, image_id)
            advance(1)
    return found, len(chosen) < len(dataset.files)


def _stored_order(masks: Store, ids: Collection[str]) -> list[str]:
    """The same ids, so that each shard is read once."""
    wanted = set(ids)
    parts = masks.index().parts.values()
    return [id_ for part in parts for id_ in part.image_ids if id_ in wanted]


def _overlap(regions: Regions, image_id: str) -> dict[str, float]:
    """IoU of one image, by its id; empty without an annotation that shows something."""
    size = regions.reader.size(image_id)
    try:
        annotation = regions.annotation(image_id, size)
    except DataError:
        return {}
    if annotation is None or not annotation.any():
        return {}
    roi = choose_roi(regions.reader(image_id), regions.config.roi, size=size)
    return {image_id: iou(roi.mask, annotation)}
