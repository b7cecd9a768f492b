"""Segmenters: what proposes candidate masks. One module per model family, named in one table.

No torch here: which weights a segmenter has is known before anything heavy is imported.
"""

from collections.abc import Callable

from medfocus_pipeline.config import MasksConfig, Runtime, Sam2Config, SegmenterConfig
from medfocus_pipeline.segmenters import sam2, threshold
from medfocus_pipeline.segmenters.protocol import Segmenter
from medfocus_pipeline.types import ModelIdentity
from medfocus_pipeline.weights import FileHashes, Weights

_LOADERS: dict[str, Callable[[MasksConfig, Weights, Runtime], Segmenter]] = {
    "sam2": sam2.load,
    "threshold": threshold.load,
}


def model_id(config: SegmenterConfig) -> str:
    """What `ModelIdentity.id` will be, known also where the weights are not."""
    return sam2.model_id(config) if isinstance(config, Sam2Config) else config.name


def settled(config: SegmenterConfig) -> SegmenterConfig:
    """The configuration with numbers where it left them to the segmenter."""
    return sam2.settled(config) if isinstance(config, Sam2Config) else config


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
