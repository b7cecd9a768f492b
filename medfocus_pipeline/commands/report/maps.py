"""The embedding maps of a report."""

from collections.abc import Mapping, Sequence

import numpy as np

from medfocus_pipeline.commands.output import bar
from medfocus_pipeline.commands.report.gallery import label_indices
from medfocus_pipeline.commands.report.opened import Opened
from medfocus_pipeline.commands.report.tiles import Tiles
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.embedded import plain_rows
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.located import opened as opened_store
from medfocus_pipeline.report.content import EmbeddingMap, Picture
from medfocus_pipeline.report.outlines import THUMBNAIL, encoded
from medfocus_pipeline.report.projection import explained, layouts, perplexity
from medfocus_pipeline.report.sampling import stratified
from medfocus_pipeline.types import FocusMode

_GREY = np.full((THUMBNAIL, THUMBNAIL, 3), 128, np.uint8)


def embedding_maps(opened: Opened, tiles: Tiles, *, points: int) -> list[EmbeddingMap]:
    """Maps of the whole images and of the focused ones, of the same sample.

    Args:
        points: images at most.

    Raises:
        StoreError: a store is corrupt.
    """
    dataset, embeddings = opened.dataset, opened.stores.embeddings
    labels, sides = label_indices(dataset), _sides(dataset, opened.split)
    chosen = stratified({id_: label for id_, label in labels.items() if id_ in sides}, points)
    thumbnails = _thumbnails(tiles, chosen)
    note = (
        f"{len(chosen):,} of {len(sides):,} images, each class in proportion, chosen by their "
        f"SHA-256. PCA, and t-SNE with perplexity {perplexity(len(chosen)):.0f} (distances "
        "between its groups mean nothing)."
    )
    found = []
    every = dict.fromkeys(opened.context.embed.focus)
    places = dict(zip(every, embeddings[: len(every)], strict=True))
    modes = _shown(list(places))
    with bar("laying out embeddings", len(modes)) as advance:
        for mode in modes:
            store = opened_store(places[mode])
            if store is not None:
                rows = plain_rows(store)
                features = np.stack([rows[id_] for id_ in chosen])
                laid = layouts(features)
                share = explained(features, laid["PCA"])
                found.append(
                    EmbeddingMap(
                        title=places[mode].label,
                        note=f"Focus {mode}. {note} PCA shows {share:.0%} of the variance.",
                        layouts=laid,
                        labels=np.array([labels[id_] for id_ in chosen], np.int64),
                        names=[dataset.files[id_] for id_ in chosen],
                        sides=[sides[id_] for id_ in chosen],
                        thumbnails=thumbnails,
                    )
                )
            advance(1)
    return found


def _shown(modes: Sequence[FocusMode]) -> list[FocusMode]:
    """The whole image and the paper's focus; or else the first two modes."""
    preferred = [mode for mode in modes if mode in {"original", "segmented"}]
    others = [mode for mode in modes if mode not in preferred]
    return [*preferred, *others][:2]


def _thumbnails(tiles: Tiles, ids: Sequence[str]) -> list[Picture]:
    """One each; none at all where the images are not here."""
    found = []
    with bar("drawing thumbnails", len(ids)) as advance:
        for image_id in ids:
            picture = tiles.thumbnail(image_id)
            if picture is None and not tiles.here:
                return []
            found.append(picture or encoded(_GREY, alt="cannot be read any more"))
            advance(1)
    return found


def _sides(dataset: Dataset, split: Split) -> Mapping[str, str]:
    """Image id -> ``train`` or ``test``; of copies on both sides, ``train``."""
    ids = dataset.manifest.image_ids
    test = {ids[row]: "test" for row in split.test.tolist()}
    return test | {ids[row]: "train" for row in split.train.tolist()}
