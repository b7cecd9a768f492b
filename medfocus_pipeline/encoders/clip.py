"""CLIP and SigLIP dual encoders of the Hugging Face hub, through transformers."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.config import ClipConfig, Runtime
from medfocus_pipeline.devices import autocast, resolve_device
from medfocus_pipeline.encoders.tower import ImageTower, dry_run
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.types import FloatArray, Image
from medfocus_pipeline.weights import (
    FileHashes,
    Weights,
    folder_weights,
    hub_weights,
    loading,
    local_folder,
)

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
        text_tower: a model of transformers with the text tower in it, on the device, float32, in
            evaluation mode; of a CLIP its parts are `text_model` and `text_projection`.
        tokenizer: of transformers, knows how many tokens the tower takes.
    """

    temperature: float
    text_features: Callable[[list[str]], "torch.Tensor"]
    text_tower: Any
    tokenizer: Any

    def encode_text(self, texts: Sequence[str]) -> FloatArray:
        """``(n, d) float32``, the text tower's projected features, not normalised."""
        import torch

        with torch.inference_mode(), autocast(self.mean.device.type, self.precision):
            features: FloatArray = self.text_features(list(texts)).float().cpu().numpy()
        return features


def clip_id(config: ClipConfig) -> str:
    """The hub id, or the name of a local folder."""
    folder = local_folder(config.model)
    return config.model if folder is None else folder.resolve().name


def find_clip(config: ClipConfig, hashes: FileHashes, *, download: bool) -> Weights | None:
    """The files of a hub model or a local folder; see `hub_weights`.

    Raises:
        WeightsError: the folder lacks a file, or the hub's files cannot be had.
    """
    folder = local_folder(config.model)

    def find(files: Sequence[str], revision: str | None) -> Weights | None:
        if folder is not None:
            return folder_weights(folder, files, optional=_OPTIONAL, hashes=hashes)
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
    return find((*_FILES, *_shards(weights.paths[_INDEX])), weights.identity.revision)


def is_clip(weights: Weights) -> bool:
    """Whether the files are a CLIP's, not a SigLIP's; known without loading them."""
    try:
        return _model_type(weights.paths["config.json"]) == "clip"
    except (OSError, ValueError):
        return False


def load_clip(config: ClipConfig, weights: Weights, runtime: Runtime) -> ClipEncoder:
    """Build the model from local files alone.

    Raises:
        WeightsError: the files are not a CLIP or SigLIP model, or are corrupt.
    """
    with loading(weights, "a CLIP or SigLIP model"):
        return _build(config, weights.paths["config.json"], runtime)


def _build(config: ClipConfig, config_file: Path, runtime: Runtime) -> ClipEncoder:
    import torch

    device = resolve_device(runtime.device)
    padding = _PADDING[_model_type(config_file)]
    model, processor, tokenizer = _from_pretrained(config_file.parent)
    model.to(device)
    forward = _image_forward(model)
    limit = model.config.text_config.max_position_embeddings

    def text_features(texts: list[str]) -> torch.Tensor:
        tokens = tokenizer(
            texts, padding=padding, truncation=True, max_length=limit, return_tensors="pt"
        )
        features: torch.Tensor = model.get_text_features(**tokens.to(device)).pooler_output
        return features

    mean, std = (torch.tensor(values, device=device) for values in _mean_and_std(processor))
    resize_and_crop = _resize_and_crop(processor)
    shapes = dry_run(resize_and_crop, forward, mean=mean)
    patch = model.config.vision_config.patch_size
    cells = shapes.side // patch
    return ClipEncoder(
        resize_and_crop=resize_and_crop,
        mask_channels=3,
        forward=torch.compile(forward) if runtime.compile else forward,
        mean=mean,
        std=std,
        precision=config.precision,
        batch_size=_BATCH_SIZE[device],
        dim=shapes.dim,
        token_grid=(cells, cells),
        token_extent=cells * patch,
        temperature=float(torch.exp(-model.logit_scale.detach().squeeze())),
        text_features=text_features,
        text_tower=model,
        tokenizer=tokenizer,
    )


def _from_pretrained(folder: Path) -> tuple[Any, Any, Any]:
    """Model, image processor and tokenizer of a folder: no network, no pickle, no remote code."""
    import torch
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    model, notes = AutoModel.from_pretrained(
        folder,
        dtype=torch.float32,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    # transformers fills what is missing or does not fit with random numbers and goes on.
    unfit = [*notes["missing_keys"], *(name for name, *_ in notes["mismatched_keys"])]
    if unfit:
        raise ValueError(f"{len(unfit)} tensors are missing or do not fit, such as {unfit[0]}")
    processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
        folder, local_files_only=True, trust_remote_code=False
    )
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    return model.eval(), processor, tokenizer


def _image_forward(model: Any) -> "Forward":
    """Projected image features and patch tokens of a CLIP or SigLIP model."""

    def siglip(pixels: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        output = model.get_image_features(pixel_values=pixels)
        return output.pooler_output, output.last_hidden_state

    def clip(pixels: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor]":
        output = model.get_image_features(pixel_values=pixels)
        patches = model.vision_model.post_layernorm(output.last_hidden_state[:, 1:])
        return output.pooler_output, model.visual_projection(patches)

    return clip if model.config.model_type == "clip" else siglip


def _resize_and_crop(processor: Any) -> Callable[[Image], Image]:
    """The processor's own steps before rescaling; they stay in uint8."""

    def resize_and_crop(image: Image) -> Image:
        pixels = processor(
            np.require(image, requirements=["C", "W"]),
            do_rescale=False,
            do_normalize=False,
            input_data_format="channels_last",
            return_tensors="np",
        )["pixel_values"][0]
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))

    return resize_and_crop


def _mean_and_std(processor: Any) -> tuple[list[float], list[float]]:
    """The processor's normalisation, in grey levels."""
    level = 1 / processor.rescale_factor if processor.do_rescale else 1.0
    if not processor.do_normalize:
        return [0.0] * 3, [level] * 3
    return [m * level for m in processor.image_mean], [s * level for s in processor.image_std]


def _model_type(config_file: Path) -> str:
    """A key of `_PADDING`.

    Raises:
        ValueError: no JSON, or neither CLIP nor SigLIP.
    """
    kind = json.loads(config_file.read_text(encoding="utf-8")).get("model_type")
    if kind not in _PADDING:
        raise ValueError(f"its model_type is {kind!r}, not one of {', '.join(_PADDING)}")
    return str(kind)


def _shards(index: Path) -> list[str]:
    """File names of a sharded safetensors model.

    Raises:
        WeightsError: the index is not one.
    """
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{index} is no safetensors index: {error}; delete it and pull the model again."
        ) from error
