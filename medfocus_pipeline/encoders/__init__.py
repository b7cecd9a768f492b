"""Encoders: the protocols and the table of implementations."""

from collections.abc import Callable
from typing import Any, NamedTuple

from medfocus_pipeline.config import ClipConfig, EncoderConfig, LiteClipConfig, Runtime
from medfocus_pipeline.encoders.clip import clip_id, find_clip, load_clip
from medfocus_pipeline.encoders.efficientnet_lite import (
    efficientnet_lite_id,
    find_efficientnet_lite,
    load_efficientnet_lite,
)
from medfocus_pipeline.encoders.lite_clip import find_lite_clip, lite_clip_id, load_lite_clip
from medfocus_pipeline.encoders.protocol import Encoder, TextEncoder
from medfocus_pipeline.encoders.timm import find_timm, load_timm, timm_id
from medfocus_pipeline.weights import FileHashes, Weights

__all__ = ["Encoder", "TextEncoder", "find_weights", "has_text", "load_encoder", "model_id"]


class _Adapter(NamedTuple):
    identify: Callable[[Any], str]
    find: Callable[..., Weights | None]
    load: Callable[[Any, Weights, Runtime], Encoder]


_ADAPTERS = {
    "clip": _Adapter(clip_id, find_clip, load_clip),
    "timm": _Adapter(timm_id, find_timm, load_timm),
    "efficientnet-lite0": _Adapter(
        efficientnet_lite_id, find_efficientnet_lite, load_efficientnet_lite
    ),
    "lite-clip": _Adapter(lite_clip_id, find_lite_clip, load_lite_clip),
}


def has_text(config: EncoderConfig) -> bool:
    """Whether the encoder is also a `TextEncoder`, known without loading it."""
    return isinstance(config, ClipConfig | LiteClipConfig)


def model_id(config: EncoderConfig) -> str:
    """What `ModelIdentity.id` will be, known also where the weights are not."""
    return _ADAPTERS[config.name].identify(config)


def find_weights(config: EncoderConfig, hashes: FileHashes, *, download: bool) -> Weights | None:
    """The local files and the identity of an encoder's weights, without importing torch.

    Args:
        config: the encoder.
        hashes: memo of file hashes.
        download: fetch what the local cache lacks (this is all that `models pull` does).

    Returns:
        None if they are not in the local cache and `download` is False.

    Raises:
        WeightsError: they cannot be had, or the name does not say which they are.
    """
    return _ADAPTERS[config.name].find(config, hashes, download=download)


def load_encoder(config: EncoderConfig, weights: Weights, runtime: Runtime) -> Encoder:
    """Build an encoder from its weights; never touches the network.

    Args:
        config: the encoder.
        weights: what `find_weights` gave for it.
        runtime: device and compilation.

    Raises:
        ConfigError: the device is not there.
        WeightsError: the files are corrupt or of another model.
    """
    return _ADAPTERS[config.name].load(config, weights, runtime)
