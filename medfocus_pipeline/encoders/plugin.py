"""Encoders of other packages, tried with one picture before they are used."""

from typing import Any

import numpy as np

from medfocus_pipeline import plugins
from medfocus_pipeline.config import EncoderPluginConfig, Runtime
from medfocus_pipeline.devices import resolve_device
from medfocus_pipeline.encoders.protocol import Encoder, TextEncoder
from medfocus_pipeline.types import Encoded
from medfocus_pipeline.weights import Weights

_TRIAL = (48, 64, 3)
"""A picture that is not square."""


def has_text(config: EncoderPluginConfig) -> bool:
    """Whether the factory, a class, has `encode_text`.

    Raises:
        ConfigError: it cannot be imported.
    """
    return hasattr(plugins.factory(config), "encode_text")


def load_plugin(config: EncoderPluginConfig, weights: Weights, runtime: Runtime) -> Encoder:
    """The plug-in's encoder, on its device.

    Raises:
        ConfigError: it does not keep to the contract of `Encoder`.
    """
    del weights  # the factory knows its files
    encoder: Encoder = plugins.make(config, Encoder, {"device": resolve_device(runtime.device)})
    _try(config, encoder)
    return encoder


def _try(config: EncoderPluginConfig, encoder: Any) -> None:
    picture = encoder.prepare(np.zeros(_TRIAL, np.uint8))
    shape, kind = getattr(picture, "shape", None), getattr(picture, "dtype", None)
    if kind != np.uint8 or shape is None or len(shape) != 3 or shape[::2] != (shape[1], 3):
        raise plugins.wrong(
            config,
            got=f"{shape} {kind} of prepare",
            expected="(s, s, 3) uint8",
        )
    if encoder.side != shape[0]:
        raise plugins.wrong(config, got=f"a side of {encoder.side}", expected=str(shape[0]))
    found = encoder.encode(picture[None])
    if not isinstance(found, Encoded):
        raise plugins.wrong(
            config,
            got=f"a {type(found).__name__} of encode",
            expected="medfocus_pipeline.types.Encoded",
        )
    _try_array(config, "pooled", found.pooled, (1, encoder.dim))
    if encoder.token_grid is not None:
        rows, columns = encoder.token_grid
        _try_array(config, "tokens", found.tokens, (1, rows * columns, encoder.dim))
    dim = encoder.dim
    if isinstance(encoder, TextEncoder):
        _try_array(config, "encode_text", encoder.encode_text(["a"]), (1, dim))


def _try_array(
    config: EncoderPluginConfig, what: str, array: Any, expected: tuple[int, ...]
) -> None:
    shape, kind = getattr(array, "shape", None), getattr(array, "dtype", None)
    if shape != expected or kind != np.float32:
        raise plugins.wrong(
            config, got=f"{shape} {kind} of {what}", expected=f"{expected} float32, by dim and grid"
        )
