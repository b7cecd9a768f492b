"""Encoders: the protocols and the table of implementations."""

from medfocus_pipeline.config import EncoderConfig, Runtime
from medfocus_pipeline.encoders.protocol import Encoder, TextEncoder
from medfocus_pipeline.encoders.table import ENCODERS
from medfocus_pipeline.weights import Weights
from medfocus_pipeline.zoo import Families

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


_FAMILIES: Families[EncoderConfig, Encoder] = Families(ENCODERS)
model_id = _FAMILIES.model_id
label = _FAMILIES.label
find_weights = _FAMILIES.find_weights
need_weights = _FAMILIES.need_weights


def has_text(config: EncoderConfig) -> bool:
    """Whether the encoder is also a `TextEncoder`, known without loading it."""
    return ENCODERS[type(config)].has_text(config)


def has_prompts(config: EncoderConfig, weights: Weights) -> bool:
    """Whether its text tower takes embeddings, as learned prompts need; known without loading."""
    return ENCODERS[type(config)].has_prompts(weights)


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
