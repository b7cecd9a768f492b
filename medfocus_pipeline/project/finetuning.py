"""Fine-tuning in a project: the runs that have no result yet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from medfocus_pipeline import encoders
from medfocus_pipeline.config import EncoderConfig, RayConfig, Runtime
from medfocus_pipeline.config.tuning import TuningConfig
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.devices import resolve_device
from medfocus_pipeline.embedding import needs_masks
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.draws import Labelled
from medfocus_pipeline.evaluation.result_rows import prediction_rows, result_row, subset_row
from medfocus_pipeline.evaluation.runs import Outcome
from medfocus_pipeline.features import FeatureKeys, FeatureTable, unembedded
from medfocus_pipeline.files import disk_errors, remove_tree
from medfocus_pipeline.project.cluster_training import Training, train_on_cluster
from medfocus_pipeline.project.fits import fitted_keys
from medfocus_pipeline.project.located import Open
from medfocus_pipeline.project.picture_store import PictureStore, read_pictures
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.stores import masks_label
from medfocus_pipeline.stores.lock import holder_of, writing
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.tuning.course import Epoch
from medfocus_pipeline.tuning.fitting import (
    CHECKPOINT,
    Duration,
    Material,
    duration,
    folder_of,
    tune,
)
from medfocus_pipeline.tuning.kept import is_partial
from medfocus_pipeline.tuning.tuned_runs import TunedRun, check_subsets, plan_tuned
from medfocus_pipeline.types import JSON
from medfocus_pipeline.weights import Weights

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

    project: Project
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
        split = self.split or self.project.split()
        every = Labelled.of(self.project.dataset.manifest)
        return plan_tuned(
            self.config,
            self.pictures.locate().place.recipe.key,
            model=self.encoder.model_dump(mode="json", include={"name", "precision"}),
            train=every.part(split.train),
            test=every.part(split.test),
        )

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
        missing = self._missing()
        if not missing:
            self._tidy()
            return 0
        self.project.context.need_folder("Fine-tuning")
        with writing(self.project.results_folder):
            if isinstance(runtime.engine, RayConfig):
                training, _ = self._training(runtime)
                check_subsets(training.table, missing)
                outcomes = train_on_cluster(training, missing, runtime.engine)
                for run, outcome in zip(missing, outcomes, strict=True):
                    _retell(run, outcome.chosen, watch)
                    self._keep(training.table, outcome)
            else:
                with self.material(runtime) as material:
                    check_subsets(material.table, missing)
                    for run in missing:
                        outcome = tune(material, run, told=partial(watch, run))
                        self._keep(material.table, outcome)
        return len(missing)

    def _tidy(self) -> None:
        """Remove what a run left that was killed between its result and its end."""
        done = (folder_of(self.folder, run.key) / CHECKPOINT for run in self.runs())
        left = [*self.folder.glob("*inputs"), *(path for path in done if path.exists())]
        if not left:
            return
        # Another run may be writing it, and a shared cache be read-only: it does no harm.
        with suppress(StoreError), writing(self.project.results_folder), disk_errors(self.folder):
            for path in left:
                remove_tree(path) if path.is_dir() else path.unlink()

    def _keep(self, table: FeatureTable, outcome: Outcome) -> None:
        """Of a run that is over, after which its checkpoint is of no use."""
        results.append(
            self.project.results_folder,
            results=[result_row(table, outcome)],
            predictions=prediction_rows(table, outcome.run.key, outcome.probabilities),
            subsets=[subset_row(table, outcome.run)],
        )
        (folder_of(self.folder, outcome.run.key) / CHECKPOINT).unlink(missing_ok=True)

    def _missing(self) -> list[TunedRun]:
        """Runs without a result, or of whose weights a part was removed because it was damaged."""
        done = fitted_keys(self.project.results_folder)
        return [
            run
            for run in self.runs()
            if run.key not in done or is_partial(folder_of(self.folder, run.key))
        ]

    def estimate(self, runtime: Runtime) -> Duration:
        """Seconds of a CPU that the runs without a result take, by a few pictures that are tried.

        0 on a GPU, where it is no matter of hours, and on a cluster, whose nodes are not known.
        What cannot be trained is refused here already.

        Raises:
            ConfigError: the network has not what is to be trained.
            DataError: a subset is too small.
        """
        missing = self._missing()
        if not missing or isinstance(runtime.engine, RayConfig):
            return Duration(0.0, 0.0)
        with self.material(runtime) as material:
            check_subsets(material.table, missing)
            found = duration(material, missing)
        return found if resolve_device(runtime.device) == "cpu" else Duration(0.0, 0.0)

    @contextmanager
    def material(self, runtime: Runtime) -> Iterator[Material]:
        """Pictures and labels, for as long as runs are trained or read again.

        Raises:
            StoreError: the store of pictures is missing, or a shard of it is corrupt.
        """
        training, weights = self._training(runtime)
        with training.material(weights, self.folder / "inputs") as material:
            yield material

    def _training(self, runtime: Runtime) -> tuple[Training, Weights]:
        """What is trained with, in this process or on a cluster, and the encoder's weights here.

        Raises:
            StoreError: the store of pictures is missing, or a shard of it is corrupt.
        """
        found = self.pictures.locate()
        if not isinstance(found.place, Open):
            raise StoreError(f"There are no pictures of {self.label} yet. Run: make finetune")
        store, results_folder = found.place.store, self.project.results_folder
        table = self._table(found.masks, store)
        training = Training(
            table,
            read_pictures(store, table.image_ids),
            self.encoder,
            found.weights.identity,
            self.project.context.weights_memo,
            self.folder,
            results_folder,
            holder_of(results_folder) or "",
            runtime,
        )
        return training, found.weights

    def _table(self, masks: Store | None, store: Store) -> FeatureTable:
        embed = self.pictures.embed
        masked, run = needs_masks(embed), self.config.run
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


def _retell(run: TunedRun, chosen: JSON, watch: Watch) -> None:
    """The epochs of a run that was trained elsewhere."""
    losses = zip(chosen["curves"]["train_loss"], chosen["curves"]["validation_loss"], strict=True)
    for number, (loss, held_out) in enumerate(losses, start=1):
        told = float("nan") if held_out is None else held_out
        watch(run, Epoch(number, run.head.epochs, loss, told))


_HASHES = ("image_id", "pixel_sha256")
