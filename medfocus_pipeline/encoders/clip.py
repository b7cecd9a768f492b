"""CLIP and SigLIP dual encoders of the Hugging Face hub, through transformers."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.config import ClipConfig, Runtime
from medfocus_pipeline.devices import autocast, resolve_device
from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.types import FloatArray, Image
from medfocus_pipeline.weights import FileHashes, Weights, folder_weights, hub_weights

if TYPE_CHECKING:
    import torch

    from medfocus_pipeline.encoders.tower import Forward

_INDEX = "model.safetensors.index.json"
_FILES = (
    "config.json",
    f"model.safetensors|{_INDEX}",
    "preprocessor_config.json|processor_config.json",
    "tokenizer.json|vocab.json|spiece.model",
)
_OPTIONAL = (
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
)
_PADDING = {"clip": "longest", "siglip": "max_length"}
"""Model type -> how its texts were padded in training; the types that this module knows."""

_BATCH_SIZE = {"cpu": 16, "mps": 32, "cuda": 128}


@dataclass(frozen=True, slots=True)
class ClipEncoder(ImageTower):
    """A dual encoder: an `ImageTower` and its text tower, both `Encoder` and `TextEncoder`.

    Tokens are the last layer's patch tokens after its final layer norm. CLIP's are projected
    into the joint space like its class token. SigLIP pools by attention, so that its tokens
    have the pooled feature's dimension but are not in the joint space.

    Attributes:
        temperature: 1 / exp(logit_scale).
        text_features: texts -> ``(n, d)`` features on the device.
    """

    temperature: float
    text_features: Callable[[list[str]], "torch.Tensor"]

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """``(n, d) float32``, the text tower's projected features, not normalised."""
        import torch

        with torch.inference_mode(), autocast(self.mean.device.type, self.precision):
            features: FloatArray = self.text_features(list(texts)).float().cpu().numpy()
        return features


def find_clip(config: ClipConfig, hashes: FileHashes, *, download: bool) -> Weights | None:
    """The files of a hub model or a local folder; see `hub_weights`.

    Raises:
        WeightsError: the folder lacks a file, or the hub's files cannot be had.
    """
    if _is_path(config.model):
        return _find_folder(Path(config.model).expanduser(), hashes)

    def find(files: Sequence[str], revision: str | None) -> Weights | None:
        return hub_weights(
            config.model,
            files,
            optional=_OPTIONAL,
            revision=revision,
            hashes=hashes,
            download=download,
        )

    weights = find(_FILES, config.revision)
    if weights is None or _INDEX not in weights.paths:
        return weights
    return find((*_FILES, *_shards(weights)), weights.identity.revision)


def load_clip(config: ClipConfig, weights: Weights, runtime: Runtime) -> ClipEncoder:
    """Build the model from local files alone.

    Raises:
        WeightsError: the files are not a CLIP or SigLIP model, or are corrupt.
    """
    import torch
    from safetensors import SafetensorError

    folder = weights.paths["config.json"].parent
    name = weights.identity.id
    kind = _model_type(weights)
    device = resolve_device(runtime.device)
    try:
        model, processor, tokenizer = _from_pretrained(folder)
        tower = _image_tower(model.to(device), processor, config, runtime)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise WeightsError(
            f"Weights of {name} do not load as a {kind} model: {_first_line(error)}; delete the "
            f"files and run `medfocus models pull {name}`, or name another model."
        ) from error
    limit = model.config.text_config.max_position_embeddings

    def text_features(texts: list[str]) -> "torch.Tensor":
        tokens = tokenizer(
            texts, padding=_PADDING[kind], truncation=True, max_length=limit, return_tensors="pt"
        )
        features: torch.Tensor = model.get_text_features(**tokens.to(device)).pooler_output
        return features

    temperature = float(torch.exp(-model.logit_scale.detach().squeeze()))
    return ClipEncoder(*tower, temperature=temperature, text_features=text_features)
