"""Where a stage's store is and what it lacks, from Parquet and JSON alone."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from medfocus_pipeline import embedding, segmentation
from medfocus_pipeline.config import EmbedConfig, EncoderConfig, MasksConfig
from medfocus_pipeline.encoders import find_weights as find_encoder_weights
from medfocus_pipeline.encoders import model_id as encoder_id
from medfocus_pipeline.segmenters import find_weights as find_segmenter_weights
from medfocus_pipeline.segmenters import model_id as segmenter_id
from medfocus_pipeline.stores import catalog
from medfocus_pipeline.stores.compute import missing_rows
from medfocus_pipeline.stores.index import Index
from medfocus_pipeline.stores.keys import Recipe
from medfocus_pipeline.stores.store import ArraySpec, Store, create, open_store
from medfocus_pipeline.types import ModelIdentity
from medfocus_pipeline.weights import FileHashes, Weights


@dataclass(frozen=True, slots=True)
class Located:
    """A stage's store, as far as it is known.

    Attributes:
        label: readable name of the stage's choice.
        weights: None if they are not on this machine.
        recipe: None if neither weights nor a store tell the model's files.
        store: None if nothing was computed yet.
    """

    label: str
    weights: Weights | None
    recipe: Recipe | None
    store: Store | None

    def index(self) -> Index:
        """What is done; nothing, without a store."""
        return self.store.index() if self.store else Index({}, {})

    def missing(self, image_ids: Iterable[str]) -> list[str]:
        """Ids without a row, each once."""
        return missing_rows(self.index(), image_ids)

    def create(self, dataset: Path, specs: Iterable[ArraySpec], *, shard_rows: int) -> Store:
        """The store, made if it is not there; it must have been located with its weights."""
        if self.recipe is None or self.weights is None:
            raise ValueError("locate the store with its weights before creating it")
        path = dataset / self.recipe.stage / self.recipe.folder(self.label)
        revision = self.weights.identity.revision
        return create(path, self.recipe, list(specs), shard_rows=shard_rows, revision=revision)


Make = Callable[[ModelIdentity], Recipe]


def locate_masks(
    dataset: Path, config: MasksConfig, hashes: FileHashes, *, download: bool = False
) -> Located:
    """The mask store of a configuration.

    Args:
        download: fetch the weights if they are not here.

    Raises:
        WeightsError: they cannot be fetched, or a local checkpoint is missing.
    """
    weights = find_segmenter_weights(config.segmenter, hashes, download=download)
    return _locate(
        dataset,
        lambda identity: segmentation.recipe(config, identity),
        weights,
        model=segmenter_id(config.segmenter),
        revision=getattr(config.segmenter, "revision", None),
        label=masks_label(config),
    )


def locate_embeddings(
    dataset: Path,
    config: EmbedConfig,
    weights: Weights | None,
    *,
    masks: str | None,
    prompts: list[str],
) -> Located:
    """The embedding store of a configuration, given the encoder's weights and the masks' key."""
    return _locate(
        dataset,
        lambda identity: embedding.recipe(config, identity, masks=masks, prompts=prompts),
        weights,
        model=encoder_id(config.encoder),
        revision=getattr(config.encoder, "revision", None),
        label=embed_label(config),
    )


def locate_texts(dataset: Path, config: EncoderConfig, weights: Weights | None) -> Located:
    """The text store of an encoder."""
    return _locate(
        dataset,
        embedding.text_recipe,
        weights,
        model=encoder_id(config),
        revision=getattr(config, "revision", None),
        label=encoder_label(config),
    )


def encoder_weights(
    config: EncoderConfig, hashes: FileHashes, *, download: bool = False
) -> Weights | None:
    """The encoder's weights, if they are here or can be fetched."""
    return find_encoder_weights(config, hashes, download=download)


def masks_label(config: MasksConfig) -> str:
    """Readable name of a segmenter's choice."""
    segmenter = config.segmenter
    if segmenter.name == "sam2":
        side = segmenter.points_per_side
        return f"sam2-{segmenter.size}-{side}x{side}"
    return segmenter.name


def encoder_label(config: EncoderConfig) -> str:
    """Readable name of an encoder."""
    return encoder_id(config).rsplit("/", 1)[-1]


def embed_label(config: EmbedConfig) -> str:
    """Readable name of an embedding store's choice."""
    roi = (config.roi,) if embedding.needs_masks(config) else ()
    return "-".join([encoder_label(config.encoder), config.focus, *roi])


def _locate(
    dataset: Path,
    make: Make,
    weights: Weights | None,
    *,
    model: str,
    revision: str | None,
    label: str,
) -> Located:
    if weights is None:
        store = catalog.find(dataset, make(ModelIdentity(model)), revision=revision)
        return Located(label, None, store.recipe if store else None, store)
    recipe = make(weights.identity)
    path = dataset / recipe.stage / recipe.folder(label)
    store = open_store(path, expected=recipe) if (path / "store.json").exists() else None
    return Located(label, weights, recipe, store)
