"""The pictures that networks are trained on: decoded and resized once, in a store of the cache."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

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
from medfocus_pipeline.errors import ConfigError, StoreError, WeightsError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.project.embeddings import check_masks, similarity
from medfocus_pipeline.project.filling import Filled, fill_missing
from medfocus_pipeline.project.stores import (
    Located,
    Stores,
    locate_pictures,
    locate_stores,
)
from medfocus_pipeline.segmentation import MaskReader
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import Fit, FocusMode
from medfocus_pipeline.weights import Weights

if TYPE_CHECKING:
    from medfocus_pipeline.project.project import Project


@dataclass(frozen=True, slots=True)
class PictureStore:
    """The images of a project as one encoder takes them.

    Attributes:
        project: whose images they are.
        encoder: says the side and how a picture is prepared.
        focus, fit: see `EmbedConfig`.
        download: whether weights that are missing are fetched.
    """

    project: "Project"
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
        found = encoders.find_weights(self.encoder, hashes, download=self.download)
        if found is None:
            raise WeightsError(
                f"The weights of {encoders.label(self.encoder)} are not on this machine. Run: "
                f"medfocus models pull {encoders.model_id(self.encoder)}"
            )
        return found

    def fill(self, runtime: Runtime) -> Filled | None:
        """Decode and resize the images that are not in the store yet; None if all are.

        An image that cannot be read any more is left out of the project.

        Raises:
            DataError: the images are not there.
            StoreError: the masks are missing, the disk is full, or another process writes.
            WeightsError: the encoder's weights cannot be had.
        """
        project, stores, weights = self.project, self._stores(), self.weights()
        place = self._place(stores, weights)
        if not place.incomplete:
            return None
        project.need_images()
        encoder = encoders.load_encoder(self.encoder, weights, runtime.here)
        candidates = resemblance = None
        if stores.masks and stores.masks.store:
            candidates = MaskReader(stores.masks.store)
            resemblance = similarity(
                project.dataset, self.embed, stores.texts.store if stores.texts else None, encoder
            )
        job = partial(
            pictures.job,
            encoder,
            self.embed,
            project.dataset.read,
            candidates,
            similarity=resemblance,
        )
        specs, rows = pictures.array_specs(encoder), pictures.SHARD_ROWS
        with place.writing(project.context.folder, specs, shard_rows=rows) as store:
            what = f"resizing {place.label}"
            filled = fill_missing(
                store, place, lambda: job, runtime.here, what=what, progress=project.progress
            )
        project.leave_out(filled.problems)
        return filled

    def locate(self) -> tuple[Stores, Located]:
        """The stores upstream, and that of the pictures.

        Raises:
            StoreError: the masks are missing.
            WeightsError: the encoder's weights cannot be had.
        """
        stores = self._stores()
        return stores, self._place(stores, self.weights())

    def _stores(self) -> Stores:
        project = self.project
        stores = locate_stores(
            project.context, project.dataset, [self.embed], download=self.download
        )
        check_masks(project.context, stores)
        return stores

    def _place(self, stores: Stores, weights: Weights) -> Located:
        project = self.project
        return locate_pictures(
            project.context, project.dataset, self.embed, weights, masks=stores.masks
        )


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
