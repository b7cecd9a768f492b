"""Encoders: the protocols and the table of implementations."""

from medfocus_pipeline.config import EncoderConfig, Runtime
from medfocus_pipeline.encoders.protocol import Encoder, TextEncoder
from medfocus_pipeline.encoders.table import ENCODERS
from medfocus_pipeline.weights import FileHashes, Weights

__all__ = [
    "ENCODERS",
    "Encoder",
    "TextEncoder",
    "find_weights",
    "has_prompts",
    "has_text",
    "label",
    "load_encoder",
    "model_id",
    "need_weights",
]


def has_text(config: EncoderConfig) -> bool:
    """Whether the encoder is also a `TextEncoder`, known without loading it."""
    return ENCODERS[type(config)].has_text(config)


def has_prompts(config: EncoderConfig, weights: Weights) -> bool:
    """Whether its text tower takes embeddings, as learned prompts need; known without loading."""
    return ENCODERS[type(config)].has_prompts(weights)


def label(config: EncoderConfig) -> str:
    """Readable name of an encoder."""
    return ENCODERS[type(config)].label(config)


def model_id(config: EncoderConfig) -> str:
    """What `ModelIdentity.id` will be, known also where the weights are not."""
    return ENCODERS[type(config)].identify(config)


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
    return ENCODERS[type(config)].find(config, hashes, download=download)


def need_weights(config: EncoderConfig, hashes: FileHashes, *, download: bool = True) -> Weights:
    """`find_weights`, of an encoder that cannot do without.

    Raises:
        WeightsError: the weights are not here, or cannot be had.
    """
    return ENCODERS[type(config)].need(config, hashes, download=download)


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
    return ENCODERS[type(config)].load(config, weights, runtime)
