"""A tiny CLIP, training sets that it could have embedded, and its text tower's own answer."""

import atexit
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from medfocus_pipeline.config import ClipConfig
from medfocus_pipeline.encoders import find_weights
from medfocus_pipeline.encoders.prompt_tower import PromptSource
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.types import FloatArray
from medfocus_pipeline.vectors import normalise
from medfocus_pipeline.weights import FileHashes
from tests.encoders.models import save_clip

PHRASES = ("a brain", "the lungs", "tumor")
BARE = ("brain.", "lungs.", "tumor.")
DIM = 24


@cache
def tiny_source() -> PromptSource:
    folder = Path(mkdtemp(prefix="tiny-clip-"))
    atexit.register(shutil.rmtree, folder)
    config = ClipConfig(model=str(save_clip(folder)))
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    return PromptSource(config, weights, PHRASES)


@cache
def _model() -> tuple[Any, Any]:
    folder = tiny_source().config.model
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    return model.eval().requires_grad_(False), tokenizer


def temperature() -> float:
    return float(torch.exp(-_model()[0].logit_scale))


def class_texts(context: torch.Tensor) -> torch.Tensor:
    """``(3, d)`` unit texts behind a context ``(M, w)``, by transformers' own text tower."""
    model, tokenizer = _model()
    space = " ".join(["a"] * len(context))  # the tokens that the context takes the place of
    tokens = tokenizer([f"{space} {name}" for name in BARE], padding=True, return_tensors="pt")

    def put(_: Any, __: Any, embeddings: torch.Tensor) -> torch.Tensor:
        every = context.expand(len(BARE), -1, -1)
        return torch.cat([embeddings[:, :1], every, embeddings[:, 1 + len(context) :]], dim=1)

    hook = model.text_model.embeddings.token_embedding.register_forward_hook(put)
    features = model.get_text_features(**tokens).pooler_output
    hook.remove()
    return normalize(features, dim=1)


def separable(
    *, images: int = 12, views: int = 2, noise: float = 0.02, seed: int = 0, parts: int = 1
) -> TrainingSet:
    """One axis of the space for each class, and a little noise."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(images) % 3)
    axes = np.tile(np.eye(3, DIM), (1, parts))[labels][:, None]
    features = axes + noise * rng.normal(size=(images, views, parts * DIM))
    return with_prompts(features, labels)


def with_prompts(features: Any, labels: Sequence[int]) -> TrainingSet:
    rows: FloatArray = normalise(np.asarray(features, np.float32))
    return TrainingSet(rows, np.asarray(labels), 3, None, None, tiny_source())
