"""What lite-clip learns from: features of phantoms, captions in tokens, and batches of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.encoders.lite_clip import open_tokenizer
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.training.phantom_pairs import Pair
from medfocus_pipeline.training.prompts import Group, card_prompts, groups, plain
from medfocus_pipeline.training.tokenizer import SPECIAL, train_tokenizer
from medfocus_pipeline.types import FloatArray, IntArray

if TYPE_CHECKING:
    from torch import Tensor

_PROMPTS = 100
"""Of each class, for the tokenizer to learn from."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """n images of phantoms with their captions.

    Attributes:
        features: ``(n, d) float32``, of the frozen network, less `origin`, divided by `spread`.
        origin: ``(d,) float32``, their mean.
        spread: the standard deviation of all of them together.
        labels: ``(n,) int64``, index into `groups`.
        captions: n lists of token ids.
        groups: the classes.
        tokenizer: of transformers.
    """

    features: FloatArray
    origin: FloatArray
    spread: float
    labels: IntArray
    captions: list[list[int]]
    groups: list[Group]
    tokenizer: Any


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step sees.

    Attributes:
        features: ``(b, d) float32``.
        labels: ``(b,) int64``, index into the K groups.
        captions: c, how many of the images come with their captions: the first.
        tokens: ``(c + K, t) int64``: their captions, then one prompt of each group.
    """

    features: "Tensor"
    labels: "Tensor"
    captions: int
    tokens: "Tensor"


def make_lesson(
    tokenizer_file: Path, pairs: Sequence[Pair], *, seed: int, vocabulary: int, length: int
) -> Lesson:
    """Learns the tokenizer, and brings features and captions into the form that steps take.

    A caption that is the very prompt of a card gives way to a prompt of our own, so that the
    cards' prompts are new to the text tower when it is tested on them.

    Args:
        tokenizer_file: is written.
        pairs: images and captions.
        seed: of the prompts.
        vocabulary: entries of the tokenizer at most.
        length: tokens of a text at most.
    """
    classes, index = groups()
    labels = np.array([index[pair.kind, pair.label] for pair in pairs], np.int64)
    held_out, rng = card_prompts(), generator("lite-clip captions", seed)
    captions = [
        classes[label].prompt(rng) if plain(pair.caption) in held_out else pair.caption
        for pair, label in zip(pairs, labels, strict=True)
    ]
    prompts = [group.prompt(rng) for group in classes for _ in range(_PROMPTS)]
    train_tokenizer(tokenizer_file, [*captions, *prompts], vocabulary=vocabulary)
    tokenizer = open_tokenizer(tokenizer_file, length=length)
    features = np.stack([pair.feature for pair in pairs])
    origin = features.mean(axis=0)
    features -= origin
    spread = float(features.std())
    tokens = tokenizer(captions, truncation=True).input_ids
    return Lesson(features / spread, origin, spread, labels, tokens, classes, tokenizer)


def draw_batch(
    lesson: Lesson,
    step: int,
    *,
    seed: int,
    batch_size: int,
    captions: int,
    feature_noise: float,
    word_noise: float,
) -> Batch:
    """The batch of a step; it depends on nothing but the arguments.

    Args:
        lesson: to draw from.
        step: number of the step.
        seed: of the training.
        batch_size: images.
        captions: captions, for the first of the images.
        feature_noise: share of the features that are left out.
        word_noise: share of the words that become any other.
    """
    import torch

    rng = generator("lite-clip step", seed, step)
    rows = rng.choice(len(lesson.labels), batch_size)
    features = lesson.features[rows]
    kept = rng.random(features.shape, np.float32) >= feature_noise
    features = features * kept / np.float32(1 - feature_noise)
    own = [lesson.captions[row] for row in rows[:captions]]
    prompts = lesson.tokenizer([group.prompt(rng) for group in lesson.groups]).input_ids
    padded = lesson.tokenizer.pad({"input_ids": [*own, *prompts]}, return_tensors="np")
    tokens = _noisy(padded.input_ids, rng, share=word_noise, entries=len(lesson.tokenizer))
    return Batch(
        torch.from_numpy(features),
        torch.from_numpy(lesson.labels[rows]),
        len(own),
        torch.from_numpy(tokens),
    )


def _noisy(
    tokens: NDArray[np.int64], rng: np.random.Generator, *, share: float, entries: int
) -> NDArray[np.int64]:
    """Tokens with a share of the words replaced: the tower must bear words that it never met."""
    first = 1 + max(SPECIAL.values())
    replaced = (tokens >= first) & (rng.random(tokens.shape) < share)
    return np.where(replaced, rng.integers(first, entries, tokens.shape), tokens)
