"""Fine-tuning in a project: its store of pictures, and the runs that have no result yet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline import encoders, pictures
from medfocus_pipeline.config import (
    EmbedConfig,
    EncoderConfig,
    FeaturesConfig,
    Runtime,
    ThreadsConfig,
)
from medfocus_pipeline.config.tuning import FinetuneConfig, TuningConfig
from medfocus_pipeline.devices import resolve_device
from medfocus_pipeline.embedding import needs_masks
from medfocus_pipeline.errors import ConfigError, StoreError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.rows import prediction_rows, result_row, subset_row
from medfocus_pipeline.evaluation.sweep import Labelled
from medfocus_pipeline.features import FeatureKeys, FeatureTable, unembedded
from medfocus_pipeline.project.embeddings import check_masks, similarity
from medfocus_pipeline.project.filling import Filled, fill_missing
from medfocus_pipeline.project.fits import fitted_keys
from medfocus_pipeline.project.stores import (
    Located,
    Stores,
    locate_pictures,
    locate_stores,
    masks_label,
)
from medfocus_pipeline.segmentation import MaskReader
from medfocus_pipeline.stores.lock import writing
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.tuning.course import Epoch
from medfocus_pipeline.tuning.kept import is_partial
from medfocus_pipeline.tuning.runs import (
    CHECKPOINT,
    Material,
    TunedRun,
    check_subsets,
    folder_of,
    most_seconds,
    plan_tuned,
    tune,
)
from medfocus_pipeline.tuning.sources import Pictures
from medfocus_pipeline.weights import Weights

if TYPE_CHECKING:
    from medfocus_pipeline.project.project import Project

Watch: TypeAlias = Callable[[TunedRun, Epoch], None]
"""Is told of each epoch of each run."""


@dataclass(frozen=True, slots=True)
class Finetuning:
    """An encoder of a project, to be fine-tuned.

    Attributes:
        project: whose images it learns from.
        encoder: where it begins.
        config: how, over which subsets.
    """

    project: "Project"
    encoder: EncoderConfig
    config: TuningConfig

    @property
    def label(self) -> str:
        """Of the encoder."""
        return encoders.label(self.encoder)

    @property
    def folder(self) -> Path:
        """Of checkpoints and trained weights."""
        return self.project.context.folder / "tuning"

    @property
    def embed(self) -> EmbedConfig:
        """The pictures, as they would be embedded."""
        project, run = self.project, self.config.run
        roi = project.context.embed.configs(auto=project.dataset.card.roi)[0].roi
        return EmbedConfig(encoder=self.encoder, roi=roi, focus=run.focus, fit=run.fit)

    def weights(self) -> Weights:
        """The encoder's, fetched if need be.

        Raises:
            ConfigError: there is no network to train.
            WeightsError: they cannot be had.
        """
        if isinstance(self.encoder, FeaturesConfig):
            raise ConfigError(
                "Features of a file have no network that could be fine-tuned. Name an encoder: "
                "--model efficientnet-lite0, or medfocus models list."
            )
        hashes = self.project.context.hashes()
        found = encoders.find_weights(self.encoder, hashes, download=True)
        if found is None:
            raise ValueError("weights that are asked for are found, or it is said why not")
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
        encoder = encoders.load_encoder(self.encoder, weights, runtime)
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
            here = runtime.model_copy(update={"engine": ThreadsConfig()})
            filled = fill_missing(
                store, place, lambda: job, here, what=what, progress=project.progress
            )
        project.leave_out(filled.problems)
        return filled

    def runs(self) -> list[TunedRun]:
        """Every run, planned; none is fitted."""
        return self._planned(self.locate()[1])

    def locate(self) -> tuple[Stores, Located]:
        """The stores upstream, and that of the pictures.

        Raises:
            StoreError: the masks are missing.
            WeightsError: the encoder's weights cannot be had.
        """
        stores = self._stores()
        return stores, self._place(stores, self.weights())

    def fit(self, runtime: Runtime, *, watch: Watch = lambda *_: None) -> int:
        """Train the runs that have no result yet; a killed one goes on.

        Args:
            runtime: device, and images at once.
            watch: is told of each epoch.

        Returns:
            How many were trained.

        Raises:
            ConfigError: the network has not what is to be trained.
            DataError: a subset is too small, or a training diverged.
        """
        folder, missing = self.project.results_folder, self._missing()
        if not missing:
            return 0
        with writing(folder), self.material(runtime) as material:
            check_subsets(material.table, missing)
            for run in missing:
                outcome = tune(material, run, told=partial(watch, run))
                results.append(
                    folder,
                    results=[result_row(material.table, outcome)],
                    predictions=prediction_rows(material.table, outcome),
                    subsets=[subset_row(material.table, run)],
                )
                (folder_of(self.folder, run.key) / CHECKPOINT).unlink(missing_ok=True)
        return len(missing)

    def _missing(self) -> list[TunedRun]:
        """Runs without a result, or of whose weights a part was removed because it was damaged."""
        done = fitted_keys(self.project.results_folder)
        return [
            run
            for run in self.runs()
            if run.key not in done or is_partial(folder_of(self.folder, run.key))
        ]

    def estimate(self, runtime: Runtime) -> float:
        """Seconds of a CPU that the runs without a result take at most, by a few pictures tried.

        0 on a GPU: it is no matter of hours there. What cannot be trained is refused here already.

        Raises:
            ConfigError: the network has not what is to be trained.
            DataError: a subset is too small.
        """
        missing = self._missing()
        if not missing:
            return 0.0
        with self.material(runtime) as material:
            check_subsets(material.table, missing)
            seconds = most_seconds(material, missing)
        return seconds if resolve_device(runtime.device) == "cpu" else 0.0

    @contextmanager
    def material(self, runtime: Runtime) -> Iterator[Material]:
        """Pictures and labels, for as long as runs are trained or read again.

        Raises:
            StoreError: the store of pictures is missing, or a shard of it is corrupt.
        """
        stores, place = self.locate()
        weights = place.need_weights()
        if place.store is None:
            raise StoreError(f"There are no pictures of {self.label} yet. Run: make finetune")
        table = self._table(stores, place.store)
        array = read_pictures(place.store, table.image_ids)
        with Pictures(array, table.image_ids, self.folder / "inputs") as shared:
            yield Material(
                table,
                shared,
                lambda: encoders.load_encoder(self.encoder, weights, runtime),
                self.encoder,
                self.label,
                self.folder,
                runtime.batch_size,
            )

    def _stores(self) -> Stores:
        project = self.project
        stores = locate_stores(project.context, project.dataset, [self.embed], download=True)
        check_masks(project.context, stores)
        return stores

    def _place(self, stores: Stores, weights: Weights) -> Located:
        project = self.project
        return locate_pictures(
            project.context, project.dataset, self.embed, weights, masks=stores.masks
        )

    def _planned(self, place: Located) -> list[TunedRun]:
        if place.recipe is None:
            raise ValueError("pictures are located with their weights and masks")
        manifest, split = self.project.dataset.manifest, self.project.split()
        every = Labelled(
            tuple(manifest.image_ids), manifest.labels, tuple(manifest.strings("group"))
        )
        return plan_tuned(
            self.config,
            place.recipe.key,
            model=self.encoder.model_dump(mode="json", include={"name", "precision"}),
            train=every.part(split.train),
            test=every.part(split.test),
        )

    def _table(self, stores: Stores, store: Store) -> FeatureTable:
        masked, run = needs_masks(self.embed), self.config.run
        masks = stores.masks.store if stores.masks and masked else None
        keys = FeatureKeys(
            segmenter=masks_label(self.project.context.masks) if masked else "none",
            roi=self.embed.roi if masked else "none",
            focus=(run.focus,),
            encoder=self.label,
            masks_key=masks.key if masks else None,
            embed_keys=(store.key,),
            text_key=None,
        )
        index = store.index().table()
        columns = [] if index is None else [index[name].to_pylist() for name in _HASHES]
        hashes = dict(zip(*columns, strict=True))
        return unembedded(self.project.dataset.manifest, self.project.split(), hashes, keys)


def pictures_in_use(results_folder: Path) -> set[str]:
    """Keys of the stores of pictures that a fine-tuned result is of; none of damaged results."""
    try:
        table = results.read(results_folder)
    except StoreError:
        return set()
    rows = table.select(["head", "embedding_keys"]).to_pylist()
    return {row["embedding_keys"] for row in rows if row["head"] == FinetuneConfig().name}


_HASHES = ("image_id", "pixel_sha256")


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
