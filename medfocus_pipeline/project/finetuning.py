"""Fine-tuning in a project: the runs that have no result yet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from medfocus_pipeline import encoders
from medfocus_pipeline.config import EncoderConfig, Runtime
from medfocus_pipeline.config.tuning import TuningConfig
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.devices import resolve_device
from medfocus_pipeline.embedding import needs_masks
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.rows import prediction_rows, result_row, subset_row
from medfocus_pipeline.evaluation.sweep import Labelled
from medfocus_pipeline.features import FeatureKeys, FeatureTable, unembedded
from medfocus_pipeline.project.fits import fitted_keys
from medfocus_pipeline.project.picture_store import PictureStore, read_pictures
from medfocus_pipeline.project.stores import Located, Stores, masks_label
from medfocus_pipeline.stores.lock import writing
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.tuning.course import Epoch
from medfocus_pipeline.tuning.kept import is_partial
from medfocus_pipeline.tuning.plans import TunedRun, check_subsets, plan_tuned
from medfocus_pipeline.tuning.runs import CHECKPOINT, Material, folder_of, most_seconds, tune
from medfocus_pipeline.tuning.sources import Pictures

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
        download: whether weights that are missing are fetched.
        split: instead of the project's.
    """

    project: "Project"
    encoder: EncoderConfig
    config: TuningConfig
    download: bool = True
    split: Split | None = None

    @property
    def label(self) -> str:
        """Of the encoder."""
        return encoders.label(self.encoder)

    @property
    def folder(self) -> Path:
        """Of checkpoints and trained weights."""
        return self.project.context.folder / "tuning"

    @property
    def pictures(self) -> PictureStore:
        """What is trained on."""
        run = self.config.run
        return PictureStore(self.project, self.encoder, run.focus, run.fit, self.download)

    def runs(self) -> list[TunedRun]:
        """Every run, planned; none is fitted."""
        return self._planned(self.pictures.locate()[1])

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
        self.project.context.need_folder("Fine-tuning")
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
        stores, place = self.pictures.locate()
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

    def _planned(self, place: Located) -> list[TunedRun]:
        if place.recipe is None:
            raise ValueError("pictures are located with their weights and masks")
        manifest, split = self.project.dataset.manifest, self.split or self.project.split()
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
        embed = self.pictures.embed
        masked, run = needs_masks(embed), self.config.run
        masks = stores.masks.store if stores.masks and masked else None
        keys = FeatureKeys(
            segmenter=masks_label(self.project.context.masks) if masked else "none",
            roi=embed.roi if masked else "none",
            focus=(run.focus,),
            encoder=self.label,
            masks_key=masks.key if masks else None,
            embed_keys=(store.key,),
            text_key=None,
        )
        index = store.index().table()
        columns = [] if index is None else [index[name].to_pylist() for name in _HASHES]
        hashes = dict(zip(*columns, strict=True))
        split = self.split or self.project.split()
        return unembedded(self.project.dataset.manifest, split, hashes, keys)


_HASHES = ("image_id", "pixel_sha256")
