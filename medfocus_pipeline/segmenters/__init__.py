"""Segmenters: what proposes candidate masks. One module per model family, named in one table.

No torch here: which weights a segmenter has is known before anything heavy is imported.
"""

from collections.abc import Callable
from pathlib import Path

from medfocus_pipeline.config import (
    MasksConfig,
    MedSamConfig,
    Runtime,
    Sam2Config,
    SamAdapterConfig,
    SamConfig,
    SegmenterConfig,
)
from medfocus_pipeline.segmenters import medsam, sam, sam2, sam_adapter, threshold
from medfocus_pipeline.segmenters.protocol import Segmenter
from medfocus_pipeline.segmenters.sam_model import find_sam, sam_id
from medfocus_pipeline.types import ModelIdentity
from medfocus_pipeline.weights import FileHashes, Weights

_LOADERS: dict[str, Callable[[MasksConfig, Weights, Runtime], Segmenter]] = {
    "sam2": sam2.load,
    "threshold": threshold.load,
    "sam": sam.load,
    "medsam": medsam.load,
    "sam_adapter": sam_adapter.load,
}


def model_id(config: SegmenterConfig) -> str:
    """What `ModelIdentity.id` will be, known also where the weights are not."""
    if isinstance(config, Sam2Config):
        return sam2.model_id(config)
    if isinstance(config, SamConfig | MedSamConfig):
        return sam_id(config.model)
    return sam_adapter.ID if isinstance(config, SamAdapterConfig) else config.name


def settled(config: SegmenterConfig) -> SegmenterConfig:
    """The configuration with numbers where it left them to the segmenter.

    Hub ids and paths of the weights are left out: `ModelIdentity` says which they are.
    """
    if isinstance(config, Sam2Config):
        return sam2.settled(config)
    if isinstance(config, SamConfig | MedSamConfig):
        return config.model_copy(update={"model": ""})
    if isinstance(config, SamAdapterConfig):
        return config.model_copy(update={"model": None, "adapter": Path()})
    return config


def find_weights(config: SegmenterConfig, hashes: FileHashes, *, download: bool) -> Weights | None:
    """The weights that a segmenter needs, and its identity.

    Args:
        config: the segmenter.
        hashes: memo of file hashes.
        download: fetch what is not cached locally.

    Returns:
        The weights, without files for a segmenter that learns nothing; None if they are not
        cached and `download` is False.

    Raises:
        WeightsError: the weights cannot be found or fetched.
    """
    if isinstance(config, Sam2Config):
        return sam2.find_weights(config, hashes, download=download)
    if isinstance(config, SamConfig | MedSamConfig):
        return find_sam(config.model, config.revision, hashes, download=download)
    if isinstance(config, SamAdapterConfig):
        return sam_adapter.find_weights(config, hashes, download=download)
    return Weights(identity=ModelIdentity(id=config.name), paths={})


def load_segmenter(masks: MasksConfig, weights: Weights, runtime: Runtime) -> Segmenter:
    """The segmenter, ready to run on its device.

    Args:
        masks: its configuration, with the frame and the number of candidates.
        weights: from `find_weights` of ``masks.segmenter``.
        runtime: device and compilation.

    Raises:
        ConfigError: the device or a package it needs is not there.
        WeightsError: the weights are corrupt or of another model.
    """
    return _LOADERS[masks.segmenter.name](masks, weights, runtime)
