"""Training sam2-lite: neck, prompt encoder and mask decoder on cached features of phantoms."""

from pathlib import Path
from typing import Any

from medfocus_pipeline import efficientnet
from medfocus_pipeline.sam import sam2, sam2_lite
from medfocus_pipeline.training import feature_cache
from medfocus_pipeline.training.checkpoint import load_checkpoint
from medfocus_pipeline.training.feature_cache import FeatureCache
from medfocus_pipeline.training.loop import CHECKPOINT, Advance
from medfocus_pipeline.training.parallel import Team, team
from medfocus_pipeline.training.sam2_model import initial_model
from medfocus_pipeline.training.sam2_run import Sam2LiteSteps, Sam2LiteTraining
from medfocus_pipeline.types import JSON
from medfocus_pipeline.weights import FileHashes, Weights

__all__ = ["Sam2LiteTraining", "prepare", "train"]


def prepare(config: Sam2LiteTraining, folder: Path, *, advance: Advance) -> None:
    """Draws the phantoms and computes their features, all or those that an earlier call left.

    Args:
        config: how many phantoms, and of which seed.
        folder: the training's; the features go into ``features`` in it.
        advance: is told how many phantoms are there more.

    Raises:
        ConfigError: `folder` has other features, or sam2 is not installed.
        StoreError: the disk has no room for the features.
        WeightsError: the trunk's weights are missing or corrupt.
    """
    described = _describe(config)
    _open(config, folder, described)  # the files are there before the other processes map them
    with team(config.workers, _fill, config, folder, described) as own:
        _fill(own, config, folder, described, lambda rows: advance(rows * own.size))


def train(config: Sam2LiteTraining, folder: Path, *, advance: Advance) -> Path:
    """Trains sam2-lite on what `prepare` made, or goes on where an earlier call stopped.

    Args:
        config: how.
        folder: of the features, the checkpoint, the log and the weights.
        advance: is told how many steps are done more.

    Returns:
        The trained weights, as `sam.sam2` loads them.

    Raises:
        ConfigError: `folder` has a training of another recipe, or sam2 is not installed.
        WeightsError: the trunk's weights are missing, or the training diverged.
    """
    described = _describe(config)
    # Before the other processes start, so that it is said once.
    load_checkpoint(folder / CHECKPOINT, recipe=config.recipe(described))
    with team(config.workers, _learn, config, folder, described) as own:
        _learn(own, config, folder, described, advance)
    return folder / sam2_lite.TRAINED.name


def _describe(config: Sam2LiteTraining) -> JSON:
    """What the features are made from."""
    trunk = _trunk().identity.files[efficientnet.FILE]
    size = sam2_lite.IMAGE_SIZE
    return feature_cache.describe(config.phantoms, seed=config.seed, size=size, trunk=trunk)


def _trunk() -> Weights:
    return efficientnet.find_weights(FileHashes())


def _open(config: Sam2LiteTraining, folder: Path, described: JSON) -> tuple[FeatureCache, Any]:
    """The features, and the model with its trunk."""
    model = initial_model(config.seed)
    sam2_lite.load_trunk(model, _trunk().paths[efficientnet.FILE])
    cache = feature_cache.open_cache(folder / "features", model.image_encoder.trunk, described)
    return cache, model


def _silent(_: int) -> None:
    """The other processes tell nobody."""


def _fill(
    own: Team, config: Sam2LiteTraining, folder: Path, described: JSON, advance: Advance = _silent
) -> None:
    cache, model = _open(config, folder, described)
    share = (own.rank, own.size)
    feature_cache.fill(cache, model.image_encoder.trunk, described, share=share, advance=advance)


def _learn(
    own: Team, config: Sam2LiteTraining, folder: Path, described: JSON, advance: Advance = _silent
) -> None:
    cache, model = _open(config, folder, described)
    if config.start is not None:
        sam2.load_checkpoint(model, config.start, name=sam2_lite.ID)
    training = Sam2LiteSteps(model, config, cache, config.recipe(described), folder, own)
    training.resume()
    training.run(advance)
    if own.rank == 0:
        training.measured()  # the weights of a training that had ended may be gone
