"""Stage one, first half, of a project: its mask store."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medfocus_pipeline import segmentation
from medfocus_pipeline.columns import numbers
from medfocus_pipeline.config import MasksConfig, Runtime, ThreadsConfig
from medfocus_pipeline.engines import JobMaker
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.model_record import Model, found_again
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.filling import Filled, fill_missing
from medfocus_pipeline.project.located import Fillable, Located, Open, to_fill, writing
from medfocus_pipeline.project.progress import Progress
from medfocus_pipeline.project.stores import locate_masks, wanted_masks
from medfocus_pipeline.segmenters import find_weights, load_segmenter, need_weights, prompted
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import ModelIdentity
from medfocus_pipeline.weights import FileHashes, Weights

if TYPE_CHECKING:
    from medfocus_pipeline.project.project import Project


@dataclass(frozen=True, slots=True)
class _Load:
    """Loads the segmenter where it is called, in this process or on another machine."""

    dataset: Dataset
    config: MasksConfig
    identity: ModelIdentity
    memo: Path
    runtime: Runtime

    def __call__(self) -> JobMaker:
        if not isinstance(self.runtime.engine, ThreadsConfig):
            self.dataset.need_here()
        model, hashes = Model.of(self.identity), FileHashes(self.memo)
        weights = found_again(find_weights, self.config.segmenter, model, hashes, owner="store")
        segmenter = load_segmenter(self.config, weights, self.runtime)
        return partial(segmentation.job, segmenter, self.config, self.dataset.read)


@dataclass(frozen=True, slots=True)
class Masks:
    """The candidate masks of a project's images.

    Attributes:
        project: whose.
        config: the segmenter and its settings.
    """

    project: "Project"
    config: MasksConfig

    def missing(self) -> list[str]:
        """Ids of images without masks, each once."""
        missing: list[str] = self.locate().missing().to_pylist()
        return missing

    @property
    def store(self) -> Store:
        """The store.

        Raises:
            StoreError: nothing was computed yet.
        """
        place = self.locate()
        if not isinstance(place, Open):
            raise StoreError(
                f"There are no masks of {place.label}. Run: make masks "
                f"DATASET={self.project.name}, or project.masks.fill()."
            )
        return place.store

    def fill(
        self, runtime: Runtime | None = None, *, progress: Progress | None = None
    ) -> Filled | None:
        """Segment the images that have no masks, as ``make masks`` does.

        An image that cannot be read any more is left out of the project.

        Args:
            runtime: engine, device, batch size and workers; None is the profile's engine.
            progress: instead of the project's.

        Returns:
            What was computed; None if nothing was missing.

        Raises:
            DataError: the images are not there.
            WeightsError: the segmenter's weights cannot be had.
            StoreError: the disk is full, or another process writes.
        """
        project = self.project
        place = self.locate()
        project.context.remember(card=project.dataset.card_path, masks=self.config)
        if not to_fill(place):
            return None
        project.need_images()
        weights, target = self.target()
        runtime = runtime or Runtime(engine=project.context.profile.engine)
        specs, rows = segmentation.array_specs(self.config), segmentation.SHARD_ROWS
        with writing(target, specs, shard_rows=rows) as store:
            load = _Load(
                project.dataset.elsewhere(),
                prompted(self.config, project.dataset.phrases),
                weights.identity,
                project.context.weights_memo,
                runtime,
            )
            filled = fill_missing(
                *(store, target, load, runtime),
                what=f"masks with {target.label}",
                progress=progress or project.progress,
            )
        project.leave_out(filled.problems)
        return filled

    def without_candidate(self) -> int:
        """Number of images of which the ROI is the whole image, for want of a candidate."""
        table = self.store.index(columns=["candidates"]).table()
        return 0 if table is None else int((numbers(table["candidates"]) == 0).sum())

    def locate(self) -> Located:
        """The store as far as it is known."""
        return locate_masks(self.project.context, self.project.dataset, self.config)

    def target(self) -> tuple[Weights, Fillable]:
        """The segmenter's weights, fetched if they are not here, and the store that they fill.

        Raises:
            WeightsError: they cannot be had.
        """
        context, dataset = self.project.context, self.project.dataset
        weights = need_weights(self.config.segmenter, context.hashes())
        return weights, wanted_masks(context, dataset, self.config).by(weights)
