"""Where a data set's stores are and what they lack, from Parquet and JSON alone."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from medfocus_pipeline import embedding, encoders, pictures, segmentation, segmenters
from medfocus_pipeline.columns import distinct
from medfocus_pipeline.config import EmbedConfig, EncoderConfig, MasksConfig
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.sealed import present
from medfocus_pipeline.stores import catalog
from medfocus_pipeline.stores.keys import Recipe
from medfocus_pipeline.stores.lock import writing
from medfocus_pipeline.stores.opening import DESCRIBED, ArraySpec, create, fitting_rows, open_store
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import ModelIdentity
from medfocus_pipeline.weights import Weights


@dataclass(frozen=True, slots=True)
class Located:
    """A store as far as it is known.

    Attributes:
        label: readable name of what it holds.
        ids: of the rows that it should have, each once.
        weights: None if they are not on this machine.
        recipe: None if neither weights nor a store tell which files the model has, or if
            the store upstream is not there.
        store: None if nothing was computed yet.
    """

    label: str
    ids: pa.StringArray
    weights: Weights | None = None
    recipe: Recipe | None = None
    store: Store | None = None

    def need_weights(self) -> Weights:
        """The weights, of a store that was located with ``download=True``."""
        if self.weights is None:
            raise ValueError(f"{self.label} was located without its weights")
        return self.weights

    def missing(self) -> pa.StringArray:
        """Ids without a row, each once."""
        return self.store.survey(self.ids).missing if self.store else self.ids

    @property
    def incomplete(self) -> bool:
        """Whether the store is not there, or lacks a row."""
        return self.store is None or len(self.missing()) > 0

    @contextmanager
    def writing(
        self, dataset: Path, specs: Iterable[ArraySpec], *, shard_rows: int
    ) -> Iterator[Store]:
        """The store with its writer's lock held, made if it is not there.

        It must have been located with its weights. It is made under the lock too: of two
        first runs one would else empty what the other writes.

        Args:
            shard_rows: of a small collection; one that is there keeps its own.

        Raises:
            StoreError: another process holds the lock.
        """
        revision = self.need_weights().identity.revision
        if self.recipe is None:
            raise ValueError(f"{self.label} was located without the store upstream")
        path = dataset / self.recipe.stage / self.recipe.folder(self.label)
        arrays = list(specs)
        shard_rows = fitting_rows(shard_rows, rows=len(self.ids), arrays=len(arrays))
        with writing(path):
            yield create(path, self.recipe, arrays, shard_rows=shard_rows, revision=revision)


@dataclass(frozen=True, slots=True)
class Stores:
    """All stores that one choice of settings uses.

    Attributes:
        masks: None where no focus mode needs one.
        embeddings: one for each configuration, in order.
        texts: None without a text tower.
    """

    masks: Located | None
    embeddings: list[Located]
    texts: Located | None

    def all(self) -> list[Located]:
        """Every store, upstream first."""
        optional = [self.masks, *self.embeddings, self.texts]
        return [place for place in optional if place is not None]

    def keys(self) -> set[str]:
        """Keys of the stores that exist."""
        return {place.store.key for place in self.all() if place.store}


def locate_masks(
    context: Context, dataset: Dataset, config: MasksConfig, *, download: bool = False
) -> Located:
    """The mask store of a configuration.

    Args:
        download: fetch the weights if they are not here.

    Raises:
        WeightsError: they cannot be fetched, or a local checkpoint is missing.
    """
    config = segmenters.prompted(config, dataset.phrases)
    return _locate(
        context.folder,
        Located(
            masks_label(config),
            dataset.files.ids,
            segmenters.find_weights(config.segmenter, context.hashes(), download=download),
        ),
        lambda identity: segmentation.recipe(config, identity),
        model=segmenters.model_id(config.segmenter),
        revision=getattr(config.segmenter, "revision", None),
    )


def locate_stores(
    context: Context,
    dataset: Dataset,
    configs: Sequence[EmbedConfig],
    *,
    download: bool = False,
) -> Stores:
    """The embedding stores of some configurations, and what they are made from.

    Args:
        configs: of one encoder.
        download: fetch the encoder's weights if they are not here.

    Raises:
        WeightsError: they cannot be fetched, or a local file is missing.
    """
    encoder = configs[0].encoder
    weights = encoders.find_weights(encoder, context.hashes(), download=download)
    texts = (
        _locate_texts(context, dataset, encoder, weights) if encoders.has_text(encoder) else None
    )
    if not any(embedding.needs_masks(config) for config in configs):
        masks = None
    else:
        masks = locate_masks(context, dataset, context.masks)
    embeddings = [
        _locate_embeddings(context, dataset, config, weights, masks=masks) for config in configs
    ]
    return Stores(masks, embeddings, texts)


def locate_pictures(
    context: Context,
    dataset: Dataset,
    config: EmbedConfig,
    weights: Weights,
    *,
    masks: Located | None,
) -> Located:
    """The store of the pictures that an encoder sees with a configuration.

    Args:
        weights: of the encoder, which says how large a picture is.
        masks: see `Stores`.
    """
    place = Located(_label(context, config), dataset.files.ids, weights)
    key = masks.store.key if masks and masks.store else None
    return _locate_encoded(
        context,
        place,
        config.encoder,
        lambda identity: pictures.recipe(config, identity, masks=key, prompts=dataset.prompts),
    )


def check_embedded(context: Context, places: Iterable[Located]) -> None:
    """Refuse to go on without embeddings.

    Raises:
        StoreError: some images have none in one of the stores.
    """
    for place in places:
        missing = len(place.missing())
        if place.store is None or missing:
            raise StoreError(
                f"{missing:,} of {len(place.ids):,} images have no embedding of "
                f"{place.label}. Run: make embed DATASET={context.dataset}"
            )


def masks_label(config: MasksConfig) -> str:
    """Readable name of a segmenter's choice."""
    return segmenters.label(config.segmenter)


def encoder_label(config: EncoderConfig) -> str:
    """Readable name of an encoder."""
    return encoders.label(config)


def _locate_embeddings(
    context: Context,
    dataset: Dataset,
    config: EmbedConfig,
    weights: Weights | None,
    *,
    masks: Located | None,
) -> Located:
    place = Located(_label(context, config), dataset.files.ids, weights)
    key = masks.store.key if masks and masks.store else None
    if embedding.needs_masks(config) and key is None:
        return place
    return _locate_encoded(
        context,
        place,
        config.encoder,
        lambda identity: embedding.recipe(config, identity, masks=key, prompts=dataset.prompts),
    )


def _label(context: Context, config: EmbedConfig) -> str:
    """Readable name of a store of one encoder, focus mode and, where it counts, region."""
    parts = [encoder_label(config.encoder), config.focus]
    if config.augmented:
        parts.append("augmented")
    if config.fit != EmbedConfig.model_fields["fit"].default:
        parts.append(config.fit)
    if embedding.needs_masks(config):
        parts += [config.roi, masks_label(context.masks)]
    return "-".join(parts)


def _locate_texts(
    context: Context, dataset: Dataset, encoder: EncoderConfig, weights: Weights | None
) -> Located:
    ids = distinct([embedding.text_id(text) for text in dataset.prompts])
    place = Located(f"{encoder_label(encoder)}-class-prompts", ids, weights)
    return _locate_encoded(context, place, encoder, embedding.text_recipe)


def _locate_encoded(
    context: Context,
    place: Located,
    encoder: EncoderConfig,
    make: Callable[[ModelIdentity], Recipe],
) -> Located:
    model, revision = encoders.model_id(encoder), getattr(encoder, "revision", None)
    return _locate(context.folder, place, make, model=model, revision=revision)


def _locate(
    folder: Path,
    place: Located,
    make: Callable[[ModelIdentity], Recipe],
    *,
    model: str,
    revision: str | None,
) -> Located:
    if place.weights is None:
        store = catalog.find(folder, make(ModelIdentity(model)), revision=revision)
        return Located(place.label, place.ids, None, store.recipe if store else None, store)
    recipe = make(place.weights.identity)
    path = folder / recipe.stage / recipe.folder(place.label)
    store = open_store(path, expected=recipe) if present(path / DESCRIBED) else None
    return Located(place.label, place.ids, place.weights, recipe, store)
