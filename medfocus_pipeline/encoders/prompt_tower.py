"""A CLIP's text tower, opened: what names it, and how it is taken out of a dual encoder."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfocus_pipeline.config import EncoderConfig, Runtime
from medfocus_pipeline.encoders import has_prompts, load_encoder
from medfocus_pipeline.encoders.clip import ClipEncoder
from medfocus_pipeline.encoders.text_transformer import Layer, PromptTower
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.types import ModelIdentity
from medfocus_pipeline.weights import Weights

if TYPE_CHECKING:
    from torch import Tensor


_QUICK = 1.702
"""Of the quick GELU (Hendrycks and Gimpel 2016, section 2)."""


@dataclass(frozen=True, slots=True)
class PromptSource:
    """Where a text tower is, and what the classes are called; cheap to hand to a process.

    Attributes:
        config: the dual encoder.
        weights: its local files.
        phrases: the K classes' noun phrases, ``a glioma tumor``.
    """

    config: EncoderConfig
    weights: Weights
    phrases: tuple[str, ...]

    def open(self) -> PromptTower:
        """The text tower, loaded once a process; its image tower is dropped.

        Raises:
            ConfigError: the encoder has no text tower, or SigLIP's.
            WeightsError: the files are corrupt or of another model.
        """
        identity = self.weights.identity
        files, paths = identity.files.items(), self.weights.paths.items()
        return _open(
            self.config, (identity.id, identity.revision), tuple(files), tuple(sorted(paths))
        )


@lru_cache(maxsize=2)
def _open(
    config: EncoderConfig,
    model: tuple[str, str | None],
    files: tuple[tuple[str, str], ...],
    paths: tuple[tuple[str, Path], ...],
) -> PromptTower:
    """The arguments are a `PromptSource`, hashable."""
    import torch

    weights = Weights(ModelIdentity(*model, dict(files)), dict(paths))
    if not has_prompts(config, weights):
        raise ConfigError(
            f"{weights.identity.id} has no text tower that takes embeddings: learned prompts "
            "need that of a CLIP. Use --encoder clip with a CLIP, or lite-clip."
        )
    with torch.inference_mode(False):  # else no gradient could ever flow through what is kept
        encoder = load_encoder(config, weights, Runtime(device="cpu"))
        if not isinstance(encoder, ClipEncoder):
            raise ConfigError(
                f"{weights.identity.id} has no text tower. Use --encoder clip or lite-clip."
            )
        return open_tower(encoder)


def open_tower(encoder: ClipEncoder) -> PromptTower:
    """The text tower of a loaded CLIP or lite-clip on the CPU, without its image tower."""
    from torch.nn.functional import silu

    text = encoder.text_tower.text_model
    length = text.embeddings.position_embedding.num_embeddings
    quick = text.config.hidden_act == "quick_gelu"

    def tokenise(texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = encoder_tokenizer(texts, truncation=True, max_length=length)[
            "input_ids"
        ]
        return ids

    encoder_tokenizer = encoder.tokenizer  # the closure keeps the tokenizer, not the encoder
    return PromptTower(
        temperature=encoder.temperature,
        vocabulary=text.embeddings.token_embedding.weight.detach(),
        positions=text.embeddings.position_embedding.weight.detach(),
        layers=tuple(_layer_of(layer, quick=quick) for layer in text.encoder.layers),
        norm=_pair(text.final_layer_norm),
        projection=encoder.text_tower.text_projection.weight.detach(),
        heads=text.config.num_attention_heads,
        epsilon=text.config.layer_norm_eps,
        activation=silu if quick else text.encoder.layers[0].mlp.activation_fn,
        tokenise=tokenise,
        # transformers' CLIPTextModel takes 2 for "not told", and then the greatest id.
        end_id=None if text.eos_token_id == 2 else text.eos_token_id,
    )


def _layer_of(layer: Any, *, quick: bool) -> Layer:
    """The weights of a layer.

    Args:
        layer: of transformers' `CLIPEncoder`.
        quick: its activation is x sigmoid(1.702 x), which is silu(1.702 x) / 1.702: with the
            factor in the weights, torch does it in one pass, a seventh of a training's time.
    """
    import torch

    factor = _QUICK if quick else 1.0
    widen, (narrow, shift) = _pair(layer.mlp.fc1), _pair(layer.mlp.fc2)
    attention = layer.self_attn
    keys, values = _pair(attention.k_proj), _pair(attention.v_proj)
    return Layer(
        norms=(_pair(layer.layer_norm1), _pair(layer.layer_norm2)),
        query=_pair(attention.q_proj),
        key_value=(torch.cat([keys[0], values[0]]), torch.cat([keys[1], values[1]])),
        out=_pair(attention.out_proj),
        widen=(factor * widen[0], factor * widen[1]),
        narrow=(narrow / factor, shift),
    )


def _pair(module: Any) -> "tuple[Tensor, Tensor]":
    return module.weight.detach(), module.bias.detach()
