"""Tiny random CLIP and SigLIP models, saved as their real ones are."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

WORDS = ("a", "photo", "scan", "of", "the", "brain", "breast", "lungs", "tumor", "normal")
TEXT_LENGTH = 8

_LAYERS: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def save_clip(folder: Path, *, seed: int = 0, length: int = TEXT_LENGTH) -> Path:
    """A CLIP of 32 x 32 pixels in 8 x 8 patches, d = 24, for texts of `length` tokens."""
    torch.manual_seed(seed)
    text = _LAYERS | _text_sizes(length) | {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    vision = _LAYERS | {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    CLIPModel(config).save_pretrained(folder)
    size = {"shortest_edge": 32}
    CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    save_tokenizer(folder, length=length)
    return folder


def save_siglip(folder: Path, *, seed: int = 0) -> Path:
    """A SigLIP of 36 x 36 pixels in 8 x 8 patches (the last 4 pixels are cut), d = 32."""
    torch.manual_seed(seed)
    config = SiglipConfig(
        text_config=_LAYERS | _text_sizes() | {"projection_size": 32},
        vision_config=_LAYERS | {"image_size": 36, "patch_size": 8},
    )
    SiglipModel(config).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 36, "width": 36}).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def _text_sizes(length: int = TEXT_LENGTH) -> dict[str, int]:
    return {"vocab_size": len(WORDS) + 4, "max_position_embeddings": length}


def save_tokenizer(folder: Path, *, length: int = TEXT_LENGTH) -> None:
    """The words as a tokenizer of transformers, for texts of so many tokens."""
    tokenizer(length).save_pretrained(folder)


def tokenizer(length: int) -> PreTrainedTokenizerFast:
    special = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    words = {word: index for index, word in enumerate(WORDS, start=4)}
    tokenizer = Tokenizer(WordLevel(special | words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=length,
    )
