"""``medfocus embed``: embed the focused images and the class prompts."""

import time
from dataclasses import dataclass

from medfocus_pipeline import embedding, features, segmentation
from medfocus_pipeline.config import EmbedConfig, EncoderConfig, Runtime
from medfocus_pipeline.encoders import has_text, load_encoder
from medfocus_pipeline.encoders.protocol import Encoder, TextEncoder
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.lock import writing
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.weights import Weights
from stages.locate import Located, encoder_weights, locate_embeddings, locate_masks, locate_texts
from stages.progress import bar, say, say_problems
from stages.scan import Dataset, open_dataset
from stages.settings import Context


@dataclass(frozen=True, slots=True)
class Upstream:
    """What embeddings are made from.

    Attributes:
        masks: None where no focus mode needs one.
        prompts: every class prompt, in class and template order.
    """

    dataset: Dataset
    masks: Store | None
    prompts: list[str]


def run(
    context: Context, configs: tuple[EmbedConfig, ...], runtime: Runtime, *, strict: bool
) -> int:
    """Compute the missing rows of every embedding store, and the missing texts.

    Args:
        configs: of one encoder; one for each focus mode.

    Returns:
        1 if `strict` and some image cannot be used, else 0.
    """
    upstream = open_upstream(context, configs)
    encoder = configs[0].encoder
    weights = encoder_weights(encoder, context.hashes())
    if weights is None and _missing(context, configs, upstream, None):
        weights = encoder_weights(encoder, context.hashes(), download=True)
    located = locate_all(context, configs, weights, upstream)
    problems = upstream.dataset.problems
    if _missing(context, configs, upstream, weights) and weights:
        model = load_encoder(encoder, weights, runtime)
        _embed_texts(context, encoder, weights, model, upstream.prompts)
        for config, place in zip(configs, located, strict=True):
            problems |= _embed(context, config, place, model, runtime, upstream)
    else:
        say(f"embed: all {len(upstream.dataset.files):,} images are done, nothing to do")
    context.remember(embed=configs)
    for place in locate_all(context, configs, weights, upstream):
        say(f"store: {place.store.path if place.store else place.label}")
    say_problems(problems)
    return int(strict and bool(problems))


def open_upstream(context: Context, configs: tuple[EmbedConfig, ...]) -> Upstream:
    """The data set and its mask store.

    Raises:
        StoreError: a focus mode needs masks that are not there.
    """
    dataset = open_dataset(context)
    prompts = [text for texts in dataset.card.prompts() for text in texts]
    if not any(embedding.needs_masks(config) for config in configs):
        return Upstream(dataset, None, prompts)
    located = locate_masks(context.folder, context.masks, context.hashes())
    missing = located.missing(dataset.files)
    if located.store is None or missing:
        raise StoreError(
            f"{len(missing):,} of {len(dataset.files):,} images have no masks of "
            f"{located.label}. Run: make masks DATASET={context.dataset}"
        )
    return Upstream(dataset, located.store, prompts)


def locate_all(
    context: Context, configs: tuple[EmbedConfig, ...], weights: Weights | None, upstream: Upstream
) -> list[Located]:
    """The embedding store of each configuration, made or not."""
    masks = upstream.masks.key if upstream.masks else None
    return [
        locate_embeddings(
            context.folder, config, weights, masks=masks, prompts=upstream.prompts
        )
        for config in configs
    ]


def _missing(
    context: Context,
    configs: tuple[EmbedConfig, ...],
    upstream: Upstream,
    weights: Weights | None,
) -> bool:
    places = locate_all(context, configs, weights, upstream)
    if any(place.store is None or place.missing(upstream.dataset.files) for place in places):
        return True
    encoder = configs[0].encoder
    texts = [embedding.text_id(text) for text in upstream.prompts]
    return has_text(encoder) and bool(
        locate_texts(context.folder, encoder, weights).missing(texts)
    )


def _embed(
    context: Context,
    config: EmbedConfig,
    place: Located,
    encoder: Encoder,
    runtime: Runtime,
    upstream: Upstream,
) -> dict[str, str]:
    dataset = upstream.dataset
    missing = place.missing(dataset.files)
    if place.store and not missing:
        return {}
    store = place.create(
        context.folder,
        embedding.array_specs(config, encoder),
        shard_rows=embedding.SHARD_ROWS,
    )
    masks = segmentation.MaskReader(upstream.masks) if upstream.masks else None
    job = embedding.job(
        encoder,
        config,
        dataset.read,
        masks if embedding.needs_masks(config) else None,
        similarity=_similarity(context, config, encoder, dataset),
        batch_size=runtime.batch_size,
        workers=runtime.workers,
    )
    started = time.monotonic()
    with writing(store.path), bar(f"embedding {place.label}", len(missing)) as advance:
        outcome = fill(store, list(dataset.files), job, on_rows=advance)
    rate = outcome.computed / max(time.monotonic() - started, 1e-9)
    say(f"embed: {outcome.computed:,} images of {place.label}, {rate:.1f} images/s")
    return {dataset.files[id_]: why for id_, why in outcome.problems.items()}


def _similarity(
    context: Context, config: EmbedConfig, encoder: Encoder, dataset: Dataset
) -> embedding.Similarity | None:
    if config.roi != "text" or not embedding.needs_masks(config):
        return None
    weights = encoder_weights(config.encoder, context.hashes())
    texts = locate_texts(context.folder, config.encoder, weights).store
    if texts is None:
        raise StoreError(
            f"The ROI rule text compares regions with the class prompts, and {config.encoder.name} "
            "has no text tower. Use --encoder clip, or --roi best."
        )
    return embedding.text_similarity(encoder, features.class_texts(texts, dataset.card.prompts()))


def _embed_texts(
    context: Context,
    config: EncoderConfig,
    weights: Weights,
    encoder: Encoder,
    prompts: list[str],
) -> None:
    if not isinstance(encoder, TextEncoder):
        return
    place = locate_texts(context.folder, config, weights)
    store = place.create(
        context.folder,
        embedding.text_array_specs(encoder.dim),
        shard_rows=embedding.TEXT_SHARD_ROWS,
    )
    ids = [embedding.text_id(text) for text in prompts]
    with writing(store.path):
        outcome = fill(store, ids, embedding.text_job(encoder, prompts))
    if outcome.computed:
        say(f"embed: {outcome.computed:,} class prompts of {place.label}")
