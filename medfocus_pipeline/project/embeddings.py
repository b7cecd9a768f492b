"""Stage one, second half, of a project: its embedding stores, and the class texts'."""

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfocus_pipeline import embedding, image_roi, text_embedding
from medfocus_pipeline.config import EmbedConfig, Runtime, ThreadsConfig
from medfocus_pipeline.embedded import class_texts
from medfocus_pipeline.encoders import find_weights, has_text, load_encoder, need_weights
from medfocus_pipeline.encoders.feature_file import FeatureFile, listed
from medfocus_pipeline.encoders.protocol import Encoder, TextEncoder
from medfocus_pipeline.engines import JobMaker, Load
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.model_record import Model, found_again
from medfocus_pipeline.profiles import EmbedPlan
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.filling import Filled, fill_missing
from medfocus_pipeline.project.located import opened, to_fill, writing
from medfocus_pipeline.project.progress import Progress
from medfocus_pipeline.project.stores import (
    Stores,
    check_masks,
    check_texts,
    locate_stores,
    wanted_embeddings,
    wanted_texts,
)
from medfocus_pipeline.segmentation import MaskReader
from medfocus_pipeline.stores.job import Job
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import ModelIdentity
from medfocus_pipeline.weights import FileHashes

if TYPE_CHECKING:
    from medfocus_pipeline.project.project import Project

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """What an encoder makes of a project's images.

    Attributes:
        project: whose.
        plan: one encoder, one store for each focus mode.
    """

    project: "Project"
    plan: EmbedPlan

    @property
    def configs(self) -> list[EmbedConfig]:
        """One for each focus mode, the ROI rule `auto` settled by the card."""
        return self.plan.configs(auto=self.project.dataset.card.roi)

    def locate(self) -> Stores:
        """The stores as far as they are known.

        Raises:
            WeightsError: a local file is missing.
        """
        return locate_stores(self.project.context, self.project.dataset, self.configs)

    def fill(
        self,
        runtime: Runtime | None = None,
        *,
        progress: Progress | None = None,
        remember: bool = True,
    ) -> list[Filled]:
        """Embed what is missing, images and class prompts, as ``make embed`` does.

        An image that cannot be read any more is left out of the project.

        Args:
            runtime: engine, device, batch size and workers; None is the profile's engine.
            progress: instead of the project's.
            remember: the plan is what later commands of the data set begin from.

        Returns:
            What was computed, a line a store; empty if nothing was missing.

        Raises:
            ConfigError: the ROI rule `text` with an encoder that reads none.
            DataError: the images are not there.
            StoreError: the masks are missing, the disk is full, or another process writes.
            WeightsError: the encoder's weights cannot be had.
        """
        if self.configs[0].roi == "text" and not has_text(self.plan.encoder):
            raise ConfigError(
                "The ROI rule text compares regions with the class prompts, and "
                f"{self.plan.encoder.name} has no text tower. Use --encoder clip, or --roi best."
            )
        project, stores = self.project, self.locate()
        masks = check_masks(project.context, stores)
        if remember:
            project.context.remember(card=project.dataset.card_path, embed=self.plan)
        own = [*stores.embeddings, *([stores.texts] if stores.texts else [])]
        if not any(map(to_fill, own)):
            return []
        project.need_images()
        runtime = runtime or Runtime(engine=project.context.profile.engine)
        filled = self._compute(masks, runtime, progress or project.progress)
        for one in filled:
            project.leave_out(one.problems)
        return filled

    def _compute(self, masks: Store | None, runtime: Runtime, progress: Progress) -> list[Filled]:
        context, dataset = self.project.context, self.project.dataset
        weights = need_weights(self.plan.encoder, context.hashes())
        here = runtime.here
        encoder = load_encoder(self.plan.encoder, weights, here)
        if isinstance(encoder, FeatureFile):
            runtime = here  # there is nothing to distribute
        filled, texts = [], None
        if has_text(self.plan.encoder):
            place = wanted_texts(context, dataset, self.plan.encoder).by(weights)
            texts = opened(place)
            if isinstance(encoder, TextEncoder) and to_fill(place):
                specs, rows = text_embedding.array_specs(encoder.dim), text_embedding.SHARD_ROWS
                with writing(place, specs, shard_rows=rows) as texts:
                    given = (texts, place, _there(_text_job(dataset, encoder)), here)
                    done = fill_missing(*given, what="class prompts", progress=progress)
                filled.append(replace(done, unit="prompts"))
        for config in self.configs:
            place = wanted_embeddings(context, dataset, config, masks).by(weights)
            if not to_fill(place):
                continue
            needed = masks if embedding.needs_masks(config) else None
            read = check_texts(context, texts) if needed and config.roi == "text" else None
            there = _Load(
                *(dataset.elsewhere(), config, weights.identity, context.weights_memo),
                *(needed, read, runtime),
            )
            load, doing = _loading(there, encoder, dataset)
            specs, rows = embedding.array_specs(config, encoder), embedding.SHARD_ROWS
            with writing(place, specs, shard_rows=rows) as store:
                given = (store, place, load, runtime)
                what = f"{doing} {place.label}"
                filled.append(fill_missing(*given, what=what, progress=progress))
        return filled


@dataclass(frozen=True, slots=True)
class _Load:
    """Loads the encoder where it is called, on another machine as a rule.

    Attributes:
        masks: None where the focus mode needs none.
        texts: None unless the ROI rule reads them.
    """

    dataset: Dataset
    config: EmbedConfig
    identity: ModelIdentity
    memo: Path
    masks: Store | None
    texts: Store | None
    runtime: Runtime

    def __call__(self) -> JobMaker:
        self.dataset.need_here()
        model, hashes = Model.of(self.identity), FileHashes(self.memo)
        weights = found_again(find_weights, self.config.encoder, model, hashes, owner="store")
        return self.job(load_encoder(self.config.encoder, weights, self.runtime))

    def job(self, encoder: Encoder) -> JobMaker:
        """How to compute the rows with an encoder that is loaded."""
        candidates = None if self.masks is None else MaskReader(self.masks)
        given = (encoder, self.config, self.dataset.read, candidates)
        alike = similarity(self.dataset, self.config, self.texts, encoder) if self.texts else None
        return partial(embedding.job, *given, similarity=alike)


def _loading(there: _Load, encoder: Encoder, dataset: Dataset) -> tuple[Load, str]:
    """What gets ready to compute the rows, and what computing them is called."""
    if isinstance(encoder, FeatureFile):
        return _there(_look_up(dataset, encoder)), "reading"
    if isinstance(there.runtime.engine, ThreadsConfig):
        return _there(there.job(encoder)), "embedding"
    return there, "embedding"


def _there(job: JobMaker) -> Load:
    """Of a job that is ready, in this process."""
    return lambda: job


def _text_job(dataset: Dataset, encoder: TextEncoder) -> JobMaker:
    def job(*, batch_size: int | None, workers: int, calls: int) -> Job[Any]:
        del batch_size, workers, calls  # one call after the other: there are few
        return text_embedding.job(encoder, dataset.prompts)

    return job


def _look_up(dataset: Dataset, file: FeatureFile) -> JobMaker:
    manifest = dataset.manifest
    usable: dict[str, list[str]] = {}
    ids, paths = manifest.image_ids, manifest.paths
    for row in manifest.usable.tolist():
        usable.setdefault(ids[row], []).append(paths[row])
    rows, surplus = file.match(usable)
    if surplus:
        _log.warning(
            "%s has %s rows of no image here: %s", file.name, f"{len(surplus):,}", listed(surplus)
        )

    def job(*, batch_size: int | None, workers: int, calls: int) -> Job[Any]:
        del batch_size, calls  # nothing is computed
        return embedding.looked_up_job(rows, dataset.read, workers=workers)

    return job


def similarity(
    dataset: Dataset, config: EmbedConfig, texts: Store, encoder: Encoder
) -> image_roi.Similarity:
    """How alike a region and the class texts are, for the ROI rule `text`."""
    found = class_texts(texts, dataset.card.prompts())
    return image_roi.text_similarity(encoder, found, fit=config.fit)
