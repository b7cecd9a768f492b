"""The pictures that networks are trained on: decoded and resized once, in a store of the cache."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline import encoders, pictures
from medfocus_pipeline.config import (
    EmbedConfig,
    EncoderConfig,
    FeaturesConfig,
    Runtime,
)
from medfocus_pipeline.config.tuning import FinetuneConfig
from medfocus_pipeline.errors import ConfigError, StoreError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.project.embeddings import similarity
from medfocus_pipeline.project.filling import Filled, fill_missing
from medfocus_pipeline.project.located import Fillable, opened, to_fill, writing
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.stores import (
    check_masks,
    check_texts,
    locate_stores,
    wanted_embeddings,
)
from medfocus_pipeline.segmentation import MaskReader
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import Fit, FocusMode
from medfocus_pipeline.weights import Weights


@dataclass(frozen=True, slots=True)
class PictureStore:
    """The images of a project as one encoder takes them.

    Attributes:
        project: whose images they are.
        encoder: says the side and how a picture is prepared.
        focus, fit: see `EmbedConfig`.
        download: whether weights that are missing are fetched.
    """

    project: Project
    encoder: EncoderConfig
    focus: FocusMode
    fit: Fit
    download: bool = True

    @property
    def embed(self) -> EmbedConfig:
        """The pictures, as they would be embedded."""
        project = self.project
        roi = project.context.embed.configs(auto=project.dataset.card.roi)[0].roi
        return EmbedConfig(encoder=self.encoder, roi=roi, focus=self.focus, fit=self.fit)

    def weights(self) -> Weights:
        """The encoder's.

        Raises:
            ConfigError: there is no network to train.
            WeightsError: they are not here, and cannot be had.
        """
        if isinstance(self.encoder, FeaturesConfig):
            raise ConfigError(
                "Features of a file have no network that could be fine-tuned. Name an encoder: "
                "--model efficientnet-lite0, or medfocus models list."
            )
        hashes = self.project.context.hashes()
        return encoders.need_weights(self.encoder, hashes, download=self.download)

    def fill(self, runtime: Runtime) -> Filled | None:
        """Decode and resize the images that are not in the store yet; None if all are.

        An image that cannot be read any more is left out of the project.

        Raises:
            DataError: the images are not there.
            StoreError: the masks are missing, the disk is full, or another process writes.
            WeightsError: the encoder's weights cannot be had.
        """
        project, found = self.project, self.locate()
        if not to_fill(found.place):
            return None
        project.need_images()
        encoder = encoders.load_encoder(self.encoder, found.weights, runtime.here)
        candidates = resemblance = None
        if found.masks:
            candidates = MaskReader(found.masks)
        if found.masks and self.embed.roi == "text":
            texts = check_texts(project.context, found.texts)
            resemblance = similarity(project.dataset, self.embed, texts, encoder)
        job = partial(
            pictures.job,
            encoder,
            self.embed,
            project.dataset.read,
            candidates,
            similarity=resemblance,
        )
        specs, rows = pictures.array_specs(encoder), pictures.SHARD_ROWS
        with writing(found.place, specs, shard_rows=rows) as store:
            what = f"resizing {found.place.label}"
            filled = fill_missing(
                store, found.place, lambda: job, runtime.here, what=what, progress=project.progress
            )
        project.leave_out(filled.problems)
        return filled

    def locate(self) -> "LocatedPictures":
        """The store of the pictures, and what they are made from.

        Raises:
            StoreError: the masks are missing.
            WeightsError: the encoder's weights cannot be had.
        """
        context, dataset, embed = self.project.context, self.project.dataset, self.embed
        stores = locate_stores(context, dataset, [embed], download=self.download)
        masks, weights = check_masks(context, stores), self.weights()
        place = wanted_embeddings(context, dataset, embed, masks, pictures.recipe).by(weights)
        return LocatedPictures(weights, masks, opened(stores.texts), place)


@dataclass(frozen=True, slots=True)
class LocatedPictures:
    """The store of some pictures, and what they are made from.

    Attributes:
        weights: of the encoder, which says how large a picture is.
        masks: None where the focus mode needs none.
        texts: None where there are none.
        place: the pictures.
    """

    weights: Weights
    masks: Store | None
    texts: Store | None
    place: Fillable


def pictures_in_use(results_folder: Path) -> set[str]:
    """Keys of the stores of pictures that a fine-tuned result is of; none of damaged results."""
    try:
        table = results.read(results_folder)
    except StoreError:
        return set()
    rows = table.select(["head", "embedding_keys"]).to_pylist()
    return {row["embedding_keys"] for row in rows if row["head"] == FinetuneConfig().name}


def read_pictures(store: Store, image_ids: tuple[str, ...]) -> NDArray[np.uint8]:
    """The pictures of some images, ``(n, s, s, 3) uint8``.

    Raises:
        StoreError: a shard is corrupt, or an image has no picture.
    """
    wanted: dict[str, list[int]] = {}
    for place, image_id in enumerate(image_ids):
        wanted.setdefault(image_id, []).append(place)
    found: NDArray[np.uint8] | None = None
    left = len(image_ids)
    for part in store.index().parts.values():
        rows = store.read(part)["picture"]
        if found is None:
            found = np.zeros((len(image_ids), *rows.shape[1:]), np.uint8)
        for image_id, row in zip(part.image_ids, rows, strict=True):
            places = wanted.pop(image_id, [])
            found[places] = row
            left -= len(places)
    if found is None or left:
        raise StoreError(f"Store {store.path.name} lacks {left:,} pictures. Run: make finetune")
    return found
