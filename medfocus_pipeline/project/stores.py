"""Which stores a data set's settings use, where they are and what they lack."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from medfocus_pipeline import embedding, encoders, segmentation, segmenters, text_embedding
from medfocus_pipeline.columns import distinct
from medfocus_pipeline.config import EmbedConfig, EncoderConfig, MasksConfig
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.located import Located, Missing, Open, Wanted, opened, opened_of
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.stores.keys import Recipe
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import ModelIdentity
from medfocus_pipeline.weights import Weights


@dataclass(frozen=True, slots=True)
class Stores:
    """All stores that one choice of settings uses.

    Attributes:
        weights: of the encoder; None if they are not on this machine.
        masks: None where no focus mode needs one.
        embeddings: one for each configuration, in order.
        texts: None without a text tower.
    """

    weights: Weights | None
    masks: Located | None
    embeddings: list[Located]
    texts: Located | None

    def all(self) -> list[Located]:
        """Every store, upstream first."""
        optional = [self.masks, *self.embeddings, self.texts]
        return [place for place in optional if place is not None]

    def keys(self) -> set[str]:
        """Keys of the stores that exist."""
        return {store.key for store in opened_of(self.all())}


def locate_masks(context: Context, dataset: Dataset, config: MasksConfig) -> Located:
    """The mask store of a configuration.

    Raises:
        WeightsError: a local checkpoint is missing.
    """
    weights = segmenters.find_weights(config.segmenter, context.hashes(), download=False)
    return wanted_masks(context, dataset, config).locate(weights)


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
    texts = masks = None
    if encoders.has_text(encoder):
        texts = wanted_texts(context, dataset, encoder).locate(weights)
    if any(embedding.needs_masks(config) for config in configs):
        masks = locate_masks(context, dataset, context.masks)
    embeddings: list[Located] = []
    for config in configs:
        wanted = wanted_embeddings(context, dataset, config, opened(masks))
        lacking = embedding.needs_masks(config) and not isinstance(masks, Open)
        embeddings.append(Missing(wanted.label, wanted.ids) if lacking else wanted.locate(weights))
    return Stores(weights, masks, embeddings, texts)


def wanted_masks(context: Context, dataset: Dataset, config: MasksConfig) -> Wanted:
    """The mask store of a configuration."""
    config = segmenters.prompted(config, dataset.phrases)
    return Wanted(
        masks_label(config),
        dataset.files.ids,
        context.folder,
        lambda identity: segmentation.recipe(config, identity),
        segmenters.model_id(config.segmenter),
        getattr(config.segmenter, "revision", None),
    )


def wanted_embeddings(
    context: Context,
    dataset: Dataset,
    config: EmbedConfig,
    masks: Store | None,
    recipe: Callable[..., Recipe] = embedding.recipe,
) -> Wanted:
    """The embedding store of a configuration.

    Args:
        masks: None where the focus mode needs none.
        recipe: ``pictures.recipe`` of the store of what the encoder would see.
    """
    key, label = masks.key if masks else None, _label(context, config)
    return _encoded(
        *(context, config.encoder, label, dataset.files.ids),
        lambda identity: recipe(config, identity, masks=key, prompts=dataset.prompts),
    )


def wanted_texts(context: Context, dataset: Dataset, encoder: EncoderConfig) -> Wanted:
    """The store of the class prompts."""
    ids = distinct([text_embedding.text_id(text) for text in dataset.prompts])
    label = f"{encoder_label(encoder)}-class-prompts"
    return _encoded(context, encoder, label, ids, text_embedding.recipe)


def check_masks(context: Context, stores: Stores) -> Store | None:
    """Refuse to go on without the masks that a focus mode needs.

    Returns:
        The mask store; None where no focus mode needs one.

    Raises:
        StoreError: some images have no masks.
    """
    return _checked(context, stores.masks, "masks", run="masks") if stores.masks else None


def check_embedded(context: Context, places: Iterable[Located]) -> list[Store]:
    """Refuse to go on without embeddings.

    Returns:
        The stores.

    Raises:
        StoreError: some images have none in one of the stores.
    """
    return [_checked(context, place, "embedding", run="embed") for place in places]


def check_texts(context: Context, texts: Store | None) -> Store:
    """Refuse to go on without the embedded class prompts.

    Raises:
        StoreError: there are none.
    """
    if texts is None:
        raise StoreError(
            f"The class prompts have no embeddings. Run: make embed DATASET={context.dataset}"
        )
    return texts


def _checked(context: Context, place: Located, what: str, *, run: str) -> Store:
    missing = len(place.missing())
    if not isinstance(place, Open) or missing:
        raise StoreError(
            f"{missing:,} of {len(place.ids):,} images have no {what} of {place.label}. "
            f"Run: make {run} DATASET={context.dataset}"
        )
    return place.store


def masks_label(config: MasksConfig) -> str:
    """Readable name of a segmenter's choice."""
    return segmenters.label(config.segmenter)


def encoder_label(config: EncoderConfig) -> str:
    """Readable name of an encoder."""
    return encoders.label(config)


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


def _encoded(
    context: Context,
    encoder: EncoderConfig,
    label: str,
    ids: pa.StringArray,
    make: Callable[[ModelIdentity], Recipe],
) -> Wanted:
    model, revision = encoders.model_id(encoder), getattr(encoder, "revision", None)
    return Wanted(label, ids, context.folder, make, model, revision)
