"""Trains lite-clip: a projection and a text tower, contrastively, on phantoms and their captions.

Stage one embeds phantoms with the frozen network once; stage two learns from these features in
minutes. The loss is CLIP's (Radford et al. 2021), where several images of a batch are of one
class: half of the target is the image's own caption, half is shared by all captions of its class.
The class prompts, in templates that no card has, are learned beside it as the classes' texts.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from medfocus_pipeline.config import Frozen, Runtime
from medfocus_pipeline.encoders.lite_clip import (
    CONFIG,
    TENSORS,
    TEXT_PREFIX,
    TOKENIZER,
    make_text_tower,
    open_tokenizer,
)
from medfocus_pipeline.files import replacing
from medfocus_pipeline.heads.threads import single_threaded
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.stores.keys import canonical_json, digest
from medfocus_pipeline.training.checkpoint import (
    CsvLog,
    load_checkpoint,
    save_checkpoint,
    save_weights,
)
from medfocus_pipeline.training.phantom_pairs import Pair, PhantomPlan, embed_phantoms, fingerprint
from medfocus_pipeline.training.prompts import Group, card_prompts, groups, plain
from medfocus_pipeline.training.tokenizer import SPECIAL, train_tokenizer
from medfocus_pipeline.types import FloatArray, IntArray

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_TEMPERATURE = 0.01
"""As in CLIP: below it, the loss hangs on a few pairs."""


class LiteClipTraining(Frozen):
    """All that changes the trained weights.

    Attributes:
        seed: of initial weights and batches.
        steps: of AdamW; the learning rate rises for `warmup` of them, then falls along a cosine.
        batch_size: pairs a step.
        feature_noise: share of the features that a step leaves out.
        word_noise: share of the words that a step replaces by any others.
        share: of the projection in the squared length of an embedding.
        dim: w, of the space that images and texts share.
        width, layers, heads, length: of the text tower; length in tokens.
        vocabulary: most entries of the tokenizer.
        checkpoint_every: steps.
    """

    phantoms: PhantomPlan = PhantomPlan()
    seed: int = Field(default=0, ge=0)
    steps: int = Field(default=1000, ge=1)
    warmup: int = Field(default=100, ge=0)
    batch_size: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    feature_noise: float = Field(default=0.2, ge=0, lt=1)
    word_noise: float = Field(default=0.1, ge=0, lt=1)
    share: float = Field(default=0.1, gt=0, lt=1)
    dim: int = Field(default=256, ge=1)
    width: int = Field(default=128, ge=8)
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)
    length: int = Field(default=48, ge=8)
    vocabulary: int = Field(default=2048, ge=128)
    checkpoint_every: int = Field(default=100, ge=1)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned from.

    Attributes:
        features: ``(n, d) float32``, each column of zero mean, all of unit spread together.
        origin: ``(d,) float32``, the mean that was taken off.
        spread: what the rest was divided by.
        labels: ``(n,) int64``, group of each pair.
        captions: n lists of token ids.
        groups: of classes.
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
    """One step's input: b pairs, and a prompt of each of the K groups.

    Attributes:
        features: ``(b, d) float32``.
        labels: ``(b,) int64``.
        tokens: ``(b + K, t) int64``, captions, then prompts.
    """

    features: "Tensor"
    labels: "Tensor"
    tokens: "Tensor"


def train(
    work: Path,
    out: Path,
    config: LiteClipTraining,
    runtime: Runtime,
    *,
    on_rows: Callable[[int], None] = lambda _: None,
    on_step: Callable[[int, float], None] = lambda _, __: None,
) -> None:
    """Train from scratch, or go on where a run of the same configuration in `work` stopped.

    Args:
        work: folder of features, checkpoint and log.
        out: folder for the trained weights, as `LiteClipConfig.checkpoint` takes it.
        config: all that changes the weights.
        runtime: how the network runs while the phantoms are embedded.
        on_rows: told how many phantoms were embedded.
        on_step: told each step's number, from 1, and loss.

    Raises:
        ConfigError: `work` holds a run of another configuration.
        WeightsError: the training diverged, or the network's package is not installed.
    """
    pairs = embed_phantoms(work, config.phantoms, runtime, on_rows=on_rows)
    with single_threaded("torch"):
        lesson = prepare(work / TOKENIZER, pairs, config)
        model = _run(work, lesson, config, on_step=on_step)
        _export(out, work / TOKENIZER, lesson, model, config)


def prepare(tokenizer_file: Path, pairs: Sequence[Pair], config: LiteClipTraining) -> Lesson:
    """Learn the tokenizer, and bring features and captions into the form that steps take.

    Captions that say the very prompt of a card are replaced by a prompt of our own.
    """
    classes, index = groups()
    labels = np.array([index[pair.kind, pair.label] for pair in pairs], np.int64)
    held_out, rng = card_prompts(), generator("lite-clip captions", config.seed)
    captions = [
        classes[label].prompt(rng) if plain(pair.caption) in held_out else pair.caption
        for pair, label in zip(pairs, labels, strict=True)
    ]
    prompts = [group.prompt(rng) for group in classes for _ in range(100)]
    train_tokenizer(tokenizer_file, [*captions, *prompts], vocabulary=config.vocabulary)
    tokenizer = open_tokenizer(tokenizer_file, length=config.length)
    features = np.stack([pair.feature for pair in pairs])
    origin = features.mean(axis=0)
    features -= origin
    spread = float(features.std())
    tokens = tokenizer(captions, truncation=True).input_ids
    return Lesson(features / spread, origin, spread, labels, tokens, classes, tokenizer)


def make_model(lesson: Lesson, config: LiteClipTraining) -> Any:
    """Projection ``image``, text tower ``text`` and ``scale``, log 1 / temperature."""
    import torch

    sizes = {
        "vocab_size": len(lesson.tokenizer),
        "hidden_size": config.width,
        "intermediate_size": 4 * config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "max_position_embeddings": config.length,
        "projection_dim": config.dim,
        **SPECIAL,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model: Any = torch.nn.Module()
        model.text = make_text_tower(sizes)
        model.image = torch.nn.Linear(lesson.features.shape[1], config.dim)
        model.scale = torch.nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    return model


def draw_batch(lesson: Lesson, config: LiteClipTraining, step: int) -> Batch:
    """The batch of a step, which depends on nothing but its number and the seed."""
    import torch

    rng = generator("lite-clip step", config.seed, step)
    rows = rng.choice(len(lesson.labels), config.batch_size)
    features = lesson.features[rows]
    kept = rng.random(features.shape, np.float32) >= config.feature_noise
    features = features * kept / np.float32(1 - config.feature_noise)
    prompts = lesson.tokenizer([group.prompt(rng) for group in lesson.groups]).input_ids
    tokens = lesson.tokenizer.pad(
        {"input_ids": [*(lesson.captions[row] for row in rows), *prompts]}, return_tensors="np"
    ).input_ids
    lowest = max(SPECIAL.values()) + 1
    noisy = (rng.random(tokens.shape) < config.word_noise) & (tokens >= lowest)
    tokens = np.where(noisy, rng.integers(lowest, len(lesson.tokenizer), tokens.shape), tokens)
    return Batch(
        torch.from_numpy(features),
        torch.from_numpy(lesson.labels[rows]),
        torch.from_numpy(tokens),
    )


def loss(model: Any, batch: Batch) -> "Tensor":
    """Contrastive loss of images and captions, plus cross-entropy over the groups' prompts."""
    from torch.nn.functional import cross_entropy, normalize

    images = normalize(model.image(batch.features), dim=1)
    texts = normalize(model.text(batch.tokens).text_embeds, dim=1)
    count = len(images)
    similarity = images @ texts.T * model.scale.exp()
    alike = (batch.labels[:, None] == batch.labels).float()
    targets = (alike / alike.sum(dim=1) + alike.new_ones(count).diag()) / 2
    pairs, prompts = similarity[:, :count], similarity[:, count:]
    contrastive = (cross_entropy(pairs, targets) + cross_entropy(pairs.T, targets)) / 2
    return contrastive + cross_entropy(prompts, batch.labels)


def _run(
    work: Path,
    lesson: Lesson,
    config: LiteClipTraining,
    *,
    on_step: Callable[[int, float], None],
) -> Any:
    """The trained model; all that it did so far is kept in `work`."""
    import torch

    path, log = work / "checkpoint.pt", CsvLog(work / "log.csv", ["step", "loss", "temperature"])
    recipe = {
        "settings": digest(config.model_dump(mode="json")),
        "phantoms": fingerprint(config.phantoms.seed),
    }
    model = make_model(lesson, config).train()
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(_rate, config=config))
    state, first = load_checkpoint(path, recipe=recipe), 0
    if state is not None:
        first = int(state["step"])
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
    log.cut(first)
    for step in range(first + 1, config.steps + 1):
        value = _step(model, optimiser, draw_batch(lesson, config, step))
        schedule.step()
        log.write(
            {"step": step, "loss": value, "temperature": math.exp(-float(model.scale.detach()))}
        )
        if step % config.checkpoint_every == 0 or step == config.steps:
            state = {
                "recipe": recipe,
                "step": step,
                "model": model.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
            }
            save_checkpoint(path, state)
        on_step(step, value)
    return model.eval()


def _step(model: Any, optimiser: Any, batch: Batch) -> float:
    import torch

    optimiser.zero_grad()
    value = loss(model, batch)
    torch.autograd.backward(value)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    with torch.no_grad():
        model.scale.clamp_(max=-math.log(_LEAST_TEMPERATURE))
    return float(value.detach())


def _rate(step: int, *, config: LiteClipTraining) -> float:
    """Share of the learning rate after so many steps."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return (1 + math.cos(math.pi * progress)) / 2


def _export(
    out: Path, tokenizer_file: Path, lesson: Lesson, model: Any, config: LiteClipTraining
) -> None:
    """Write the folder that `load_lite_clip` reads."""
    import torch

    weight = model.image.weight.detach() / lesson.spread
    tensors = {
        "image.weight": weight,
        "image.bias": model.image.bias.detach() - weight @ torch.from_numpy(lesson.origin),
        "temperature": torch.exp(-model.scale.detach()),
        **{TEXT_PREFIX + name: tensor for name, tensor in model.text.state_dict().items()},
    }
    save_weights(out / TENSORS, tensors)
    sizes = model.text.config.to_diff_dict()
    described = {"share": config.share, "text": sizes}
    for name, content in (
        (TOKENIZER, tokenizer_file.read_bytes()),
        (CONFIG, canonical_json(described)),
    ):
        with replacing(out / name) as temporary:
            temporary.write_bytes(content)
