"""``medfocus embed``: embed the focused images, and the class prompts."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from medfocus_pipeline import embedding, segmentation
from medfocus_pipeline.config import EmbedConfig, Runtime
from medfocus_pipeline.devices import calls_at_once
from medfocus_pipeline.encoders import has_text, load_encoder
from medfocus_pipeline.encoders.feature_file import FeatureFile, listed
from medfocus_pipeline.encoders.protocol import Encoder, TextEncoder
from medfocus_pipeline.errors import ConfigError, StoreError
from medfocus_pipeline.features import class_texts
from medfocus_pipeline.profiles import EmbedPlan
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.job import Job
from medfocus_pipeline.stores.store import Store
from stages.filling import JobMaker, fill_shown
from stages.locate import Located, Stores, locate_stores
from stages.progress import say, say_problems
from stages.scan import Dataset, open_dataset
from stages.settings import Context


def run(context: Context, plan: EmbedPlan, runtime: Runtime, *, strict: bool) -> int:
    """Compute the missing rows of every embedding store, and the missing texts.

    Args:
        plan: one encoder, one store for each focus mode.

    Returns:
        1 if `strict` and some image cannot be used, else 0.
    """
    if context.data.exists():  # before, so that a killed first run is not forgotten
        context.remember()
    dataset = open_dataset(context)
    configs = plan.configs(auto=dataset.card.roi)
    if configs[0].roi == "text" and not has_text(plan.encoder):
        raise ConfigError(
            f"The ROI rule text compares regions with the class prompts, and {plan.encoder.name} "
            "has no text tower. Use --encoder clip, or --roi best."
        )
    problems = dataset.problems
    stores = locate_stores(context, dataset, configs)
    check_masks(context, stores)
    context.remember(card=dataset.card_path, embed=plan)
    if _missing(stores):
        stores = locate_stores(context, dataset, configs, download=True)
        late = _compute(context, dataset, configs, runtime, stores)
        dataset = dataset.without(context, late)
        problems |= dataset.problems
        stores = locate_stores(context, dataset, configs)
    else:
        say(f"embed: all {len(dataset.files):,} images are done, nothing to do")
    for place in stores.embeddings:
        if place.store:
            say(f"store: {place.store.path}")
            say_out_of_sight(place.store, plan)
    say_problems(problems)
    return int(strict and bool(problems))


def say_out_of_sight(store: Store, plan: EmbedPlan) -> None:
    """Say how many regions the encoder hardly sees, if any."""
    count = embedding.out_of_sight(store)
    if count:
        say(
            f"{count:,} images have their region mostly outside what the encoder sees (fit "
            f"{plan.fit}, views {', '.join(plan.views)}). Better: --fit squeeze --views identity"
        )


def check_masks(context: Context, stores: Stores) -> None:
    """Refuse to go on without the masks that a focus mode needs.

    Raises:
        StoreError: some images have no masks.
    """
    missing = stores.masks.missing() if stores.masks else []
    if stores.masks and missing:
        raise StoreError(
            f"{len(missing):,} of {len(stores.masks.ids):,} images have no masks of "
            f"{stores.masks.label}. Run: make masks DATASET={context.dataset}"
        )


def _missing(stores: Stores) -> bool:
    places = [*stores.embeddings, *([stores.texts] if stores.texts else [])]
    return any(place.store is None or place.missing() for place in places)


def _compute(
    context: Context,
    dataset: Dataset,
    configs: Sequence[EmbedConfig],
    runtime: Runtime,
    stores: Stores,
) -> dict[str, str]:
    encoder = load_encoder(configs[0].encoder, stores.embeddings[0].need_weights(), runtime)
    if stores.texts:
        _embed_texts(context, dataset, stores.texts, encoder, runtime)
        stores = locate_stores(context, dataset, configs)
    problems: dict[str, str] = {}
    for config, place in zip(configs, stores.embeddings, strict=True):
        if place.store is None or place.missing():
            problems |= _embed(context, dataset, config, runtime, stores, place, encoder)
    return problems


def _embed(
    context: Context,
    dataset: Dataset,
    config: EmbedConfig,
    runtime: Runtime,
    stores: Stores,
    place: Located,
    encoder: Encoder,
) -> dict[str, str]:
    specs = embedding.array_specs(config, encoder)
    job: JobMaker
    if isinstance(encoder, FeatureFile):
        job, doing = _look_up(dataset, encoder), "reading"
    else:
        job, doing = _encode(dataset, config, stores, encoder), "embedding"
    with place.writing(context.folder, specs, shard_rows=embedding.SHARD_ROWS) as store:
        outcome = fill_shown(store, place, job, runtime, what=f"{doing} {place.label}")
    return outcome.problems


def _encode(dataset: Dataset, config: EmbedConfig, stores: Stores, encoder: Encoder) -> JobMaker:
    candidates = similarity = None
    if embedding.needs_masks(config) and stores.masks and stores.masks.store:
        candidates = segmentation.MaskReader(stores.masks.store)
        similarity = _similarity(dataset, config, stores, encoder)
    return partial(embedding.job, encoder, config, dataset.read, candidates, similarity=similarity)


def _look_up(dataset: Dataset, file: FeatureFile) -> JobMaker:
    manifest = dataset.manifest
    usable: dict[str, list[str]] = {}
    for row in manifest.usable.tolist():
        usable.setdefault(manifest.image_ids[row], []).append(manifest.paths[row])
    rows, surplus = file.match(usable)
    if surplus:
        say(f"{file.name} has {len(surplus):,} rows of no image here: {listed(surplus)}")

    def job(*, batch_size: int | None, workers: int, calls: int) -> Job[Any]:
        del batch_size, calls  # nothing is computed
        return embedding.looked_up_job(rows, dataset.read, workers=workers)

    return job


def _similarity(
    dataset: Dataset, config: EmbedConfig, stores: Stores, encoder: Encoder
) -> embedding.Similarity | None:
    if config.roi != "text":
        return None
    if stores.texts is None or stores.texts.store is None:
        raise ValueError("class prompts are embedded before images")
    texts = class_texts(stores.texts.store, dataset.card.prompts())
    return embedding.text_similarity(encoder, texts, fit=config.fit)


def _embed_texts(
    context: Context, dataset: Dataset, place: Located, encoder: Encoder, runtime: Runtime
) -> None:
    if not isinstance(encoder, TextEncoder) or (place.store and not place.missing()):
        return
    specs, rows = embedding.text_array_specs(encoder.dim), embedding.TEXT_SHARD_ROWS
    with (
        place.writing(context.folder, specs, shard_rows=rows) as store,
        calls_at_once(runtime.device),
    ):
        outcome = fill(store, place.ids, embedding.text_job(encoder, dataset.prompts))
    say(f"embedded {outcome.computed:,} class prompts")
