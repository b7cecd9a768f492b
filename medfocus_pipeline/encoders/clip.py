"""CLIP and SigLIP dual encoders of the Hugging Face hub, through transformers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medfocus_pipeline.config import ClipConfig, Runtime
from medfocus_pipeline.devices import resolve_device
from medfocus_pipeline.encoders.hugging_face import (
    PREPROCESSING,
    from_pretrained,
    mean_and_std,
    resizing,
    token_maps,
)
from medfocus_pipeline.encoders.image_model import Maps, image_model
from medfocus_pipeline.encoders.tower import DualTower
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.tensors import FORMATS
from medfocus_pipeline.weight_files import CONFIG, loading, model_type
from medfocus_pipeline.weights import Weights

if TYPE_CHECKING:
    import torch

    from medfocus_pipeline.encoders.image_model import Forward

_SENTENCES = "spiece.model"
FILES = (CONFIG, PREPROCESSING, f"tokenizer.json|vocab.json|{_SENTENCES}", FORMATS)
"""The tensors last: while they are on their way, nothing else is missing."""

OPTIONAL = (
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
)
_TYPES = ("clip", "siglip")
"""Model types that this module knows; SigLIP 2 is a `siglip` too, but for its NaFlex variants."""


@dataclass(frozen=True, slots=True)
class ClipEncoder(DualTower):
    """A dual encoder of transformers, whose text tower can be opened.

    Tokens are the last layer's patch tokens after its final layer norm. CLIP's are projected
    into the joint space like its class token. SigLIP pools by attention, so that its tokens
    have the pooled feature's dimension but are not in the joint space.

    Attributes:
        text_tower: a model of transformers with the text tower in it, on the device, float32, in
            evaluation mode; of a CLIP its parts are `text_model` and `text_projection`.
        tokenizer: of transformers, knows how many tokens the tower takes.
    """

    text_tower: Any
    tokenizer: Any


def is_clip(weights: Weights) -> bool:
    """Whether the files are a CLIP's, not a SigLIP's; known without loading them."""
    try:
        return model_type(weights.paths[CONFIG], _TYPES) == "clip"
    except (OSError, ValueError, RecursionError):
        return False


def load_clip(config: ClipConfig, weights: Weights, runtime: Runtime) -> ClipEncoder:
    """Build the model from local files alone.

    Raises:
        ConfigError: the device or a package that its tokenizer needs is not there.
        WeightsError: the files are not a CLIP or SigLIP model, or are corrupt.
    """
    try:
        with loading(weights, "a CLIP or SigLIP model"):
            return _build(config, weights, runtime)
    except ImportError as error:  # a SigLIP without a tokenizer.json: MedSigLIP may be one
        raise ConfigError(
            f"The tokenizer of {weights.identity.id} is a {_SENTENCES}, which needs packages that "
            "are not installed. Run: pip install sentencepiece protobuf"
        ) from error


def _build(config: ClipConfig, weights: Weights, runtime: Runtime) -> ClipEncoder:
    import torch
    from transformers import AutoTokenizer

    device = resolve_device(runtime.device)
    config_file = weights.paths[CONFIG]
    kind = model_type(config_file, _TYPES)
    model, processor = from_pretrained(weights)
    tokenizer = AutoTokenizer.from_pretrained(
        config_file.parent, local_files_only=True, trust_remote_code=False
    )
    model.to(device)
    tokenise = _tokenise(tokenizer, kind, limit=model.config.text_config.max_position_embeddings)

    def text_features(texts: list[str]) -> torch.Tensor:
        tokens = tokenise(texts).to(device)
        features: torch.Tensor = model.get_text_features(**tokens).pooler_output
        return features

    image = image_model(
        resizing(processor),
        mean_and_std(processor),
        _image_forward(model),
        _image_part(model),
        precision=config.precision,
        runtime=runtime,
        patch=model.config.vision_config.patch_size,
    )
    return ClipEncoder(
        image,
        temperature=float(torch.exp(-model.logit_scale.detach().squeeze())),
        text_features=text_features,
        text_tower=model,
        tokenizer=tokenizer,
    )


def _tokenise(tokenizer: Any, kind: str, *, limit: int) -> Callable[[list[str]], Any]:
    """Texts as the model was trained to read them.

    SigLIP and SigLIP 2 (big_vision, `proj/image_text`) know no mask: their text towers attend to
    the padding, whatever tokenizer comes along. They read lower case only; the tokenizer of
    SigLIP makes it, that of SigLIP 2 (Gemma's) does not.
    """

    def clip(texts: list[str]) -> Any:
        return tokenizer(
            texts, padding="longest", truncation=True, max_length=limit, return_tensors="pt"
        )

    def siglip(texts: list[str]) -> Any:
        return tokenizer(
            [text.lower() for text in texts],
            padding="max_length",
            truncation=True,
            max_length=limit,
            return_attention_mask=False,
            return_tensors="pt",
        )

    return clip if kind == "clip" else siglip


def _image_part(model: Any) -> Any:
    """The modules that `_image_forward` runs."""
    from torch.nn import ModuleDict

    names = ("vision_model", "visual_projection")
    return ModuleDict({name: getattr(model, name) for name in names if hasattr(model, name)})


def _image_forward(model: Any) -> "Forward":
    """Projected image features, patch tokens and levels of a CLIP or SigLIP model."""

    def siglip(pixels: "torch.Tensor") -> Maps:
        output = model.get_image_features(pixel_values=pixels, output_hidden_states=True)
        norm = model.vision_model.post_layernorm
        levels = token_maps(output.hidden_states, prefix=0, norm=norm)
        return Maps(output.pooler_output, output.last_hidden_state, levels)

    def clip(pixels: "torch.Tensor") -> Maps:
        output = model.get_image_features(pixel_values=pixels, output_hidden_states=True)
        norm = model.vision_model.post_layernorm
        patches = norm(output.last_hidden_state[:, 1:])
        levels = token_maps(output.hidden_states, prefix=1, norm=norm)
        return Maps(output.pooler_output, model.visual_projection(patches), levels)

    return clip if model.config.model_type == "clip" else siglip
