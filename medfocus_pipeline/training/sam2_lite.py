"""Training sam2-lite: neck, prompt encoder and mask decoder on cached features of phantoms."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from medfocus_pipeline import efficientnet
from medfocus_pipeline.config import Frozen
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.segmenters import sam2
from medfocus_pipeline.training import feature_cache
from medfocus_pipeline.training.checkpoint import (
    CsvLog,
    load_checkpoint,
    save_checkpoint,
    save_weights,
)
from medfocus_pipeline.training.feature_cache import FeatureCache
from medfocus_pipeline.training.parallel import Team, team
from medfocus_pipeline.training.sam2_losses import draw_batch, losses
from medfocus_pipeline.weights import FileHashes

if TYPE_CHECKING:
    from torch import Tensor

_CHECKPOINT = "checkpoint.pt"

COLUMNS = (
    *("step", "learning_rate", "gradient", "loss", "mask", "score"),
    *("click", "click_oracle", "box", "correction"),
)
"""Of the log: losses, then the mean IoU of each kind of prompt, since the row before."""


class Sam2LiteTraining(Frozen):
    """How sam2-lite is trained; all of it but `log_every` and `save_every` changes numbers.

    Attributes:
        phantoms: images, all kinds of phantoms in turn; their features take 380 kB each.
        seed: of phantoms, initial weights and batches.
        steps: updates of the weights; the learning rate ends at zero with them.
        batch_size: images a step and worker, of five prompts each.
        workers: processes of one thread each.
        learning_rate: the greatest, after `warmup` steps.
        ema: decay of the averaged weights, which are the ones kept.
        log_every, save_every: steps from one row, one checkpoint, to the next.
    """

    phantoms: int = Field(default=16_000, ge=1)
    seed: int = Field(default=0, ge=0)
    steps: int = Field(default=30_000, ge=1)
    batch_size: int = Field(default=8, ge=1)
    workers: int = Field(default=2, ge=1, le=16)
    learning_rate: float = Field(default=8e-4, gt=0)
    warmup: int = Field(default=200, ge=1)
    weight_decay: float = Field(default=0.05, ge=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    log_every: int = Field(default=50, ge=1)
    save_every: int = Field(default=250, ge=1)

    def recipe(self, trunk: str) -> dict[str, Any]:
        """What the weights are made from; a checkpoint of another recipe is not gone on with."""
        return self.model_dump(exclude={"log_every", "save_every"}) | {"trunk": trunk}


def prepare(config: Sam2LiteTraining, folder: Path, *, advance: Callable[[int], None]) -> None:
    """Draws the phantoms and computes their features, all or those that an earlier call left.

    Args:
        config: how many phantoms, and of which seed.
        folder: the training's; the features go into ``features`` in it.
        advance: is told how many phantoms are there more.

    Raises:
        ConfigError: `folder` has other features, or sam2 is not installed.
        WeightsError: the trunk's weights are missing.
    """
    _open(config, folder)  # the files are there before the other processes map them
    with team(config.workers, _fill, config, folder) as own:
        _fill(own, config, folder, lambda rows: advance(rows * own.size))


def train(config: Sam2LiteTraining, folder: Path, *, advance: Callable[[int], None]) -> Path:
    """Trains sam2-lite on what `prepare` made, or goes on where an earlier call stopped.

    Args:
        config: how.
        folder: of the features, the checkpoint, the log and the weights.
        advance: is told how many steps are done more.

    Returns:
        The trained weights, as `segmenters.sam2` loads them.

    Raises:
        ConfigError: `folder` has a training of another recipe, or sam2 is not installed.
        WeightsError: the trunk's weights are missing, or the training diverged.
    """
    with team(config.workers, _learn, config, folder) as own:
        _learn(own, config, folder, advance)
    return folder / sam2.LITE_WEIGHTS.name


def _open(config: Sam2LiteTraining, folder: Path) -> tuple[FeatureCache, Any, dict[str, Any]]:
    """The features, the model with its trunk, and what the features are made from."""
    weights = efficientnet.find_weights(FileHashes())
    model = initial_model(config.seed)
    sam2.load_lite_trunk(model, weights)
    described = feature_cache.describe(
        config.phantoms,
        seed=config.seed,
        size=model.image_size,
        trunk=weights.identity.files[efficientnet.FILE],
    )
    cache = feature_cache.open_cache(folder / "features", model.image_encoder.trunk, described)
    return cache, model, described


def _fill(
    own: Team,
    config: Sam2LiteTraining,
    folder: Path,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    cache, model, described = _open(config, folder)
    share = (own.rank, own.size)
    feature_cache.fill(cache, model.image_encoder.trunk, described, share=share, advance=advance)


def _learn(
    own: Team,
    config: Sam2LiteTraining,
    folder: Path,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    cache, model, described = _open(config, folder)
    run = Run(model, config, config.recipe(described["trunk"]), folder, own)
    run.resume()
    advance(run.step)
    while run.step < config.steps:
        run.advance(cache)
        advance(1)
    run.keep()


def initial_model(seed: int) -> Any:
    """A `SAM2Base` of size `lite` with the weights that the training starts from."""
    import torch
    from torch import nn

    model = sam2.random_model("lite", seed=seed)
    rng = torch.Generator().manual_seed(seed)
    transformer = model.sam_mask_decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in attentions:
        # Equal projections of queries and keys: like attends to like, so a click finds its place
        # in the image from the first step on. With independent ones that takes most of the run.
        weight = nn.init.orthogonal_(attention.q_proj.weight.detach(), gain=1.6, generator=rng)
        attention.k_proj.weight.detach().copy_(weight)
        attention.q_proj.bias.detach().zero_()
        attention.k_proj.bias.detach().zero_()
    # The package draws all frequencies at one scale; a small image needs coarse and fine ones.
    matrix = model.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    matrix *= torch.logspace(math.log10(0.3), math.log10(1.6), matrix.shape[1])
    return model


class Run:
    """A training between two steps: the model, its averages, the optimiser, the files.

    Args:
        model: from `initial_model`; its trunk is taken off, as features come from a cache.
        config: how it is trained.
        recipe: what the weights are made from.
        folder: of the checkpoint, the log, the recipe and the weights.
        own: the process; rank 0 writes the files.
    """

    def __init__(
        self, model: Any, config: Sam2LiteTraining, recipe: dict[str, Any], folder: Path, own: Team
    ) -> None:
        import torch

        self.step = 0
        self._model, self._config, self._recipe, self._own = model, config, recipe, own
        self._folder = folder
        self._log = CsvLog(folder / "log.csv", COLUMNS)
        self._figures: list[dict[str, float]] = []
        model.image_encoder.trunk = torch.nn.Identity()
        _attend_exactly(model)
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        flat = [weight.dim() < 2 or len(weight) < 2 for weight in self._weights]
        matrices = [w for w, vector in zip(self._weights, flat, strict=True) if not vector]
        vectors = [w for w, vector in zip(self._weights, flat, strict=True) if vector]
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self._optimiser = torch.optim.AdamW(
            groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True
        )

    def resume(self) -> None:
        """Goes on from the checkpoint in the folder, if there is one."""
        state = load_checkpoint(self._folder / _CHECKPOINT, recipe=self._recipe)
        if state is not None:
            self.step = state["step"]
            self._figures = state["figures"]
            self._model.load_state_dict(state["model"])
            self._average = state["average"]
            self._optimiser.load_state_dict(state["optimiser"])
        if self._own.rank == 0:
            self._log.cut(self.step)

    def advance(self, cache: FeatureCache) -> None:
        """One step: each process its batch, all the same update."""
        import torch

        config, own = self._config, self._own
        rng = generator("sam2-lite", config.seed, self.step, own.rank)
        side = self._model.image_size // 4
        batch = draw_batch(cache, config.batch_size, side, rng)
        found = losses(self._model, batch, torch.Generator().manual_seed(int(rng.integers(2**63))))
        torch.autograd.backward(found.total)
        length = self._update()
        self._figures.append(
            found.figures | {"loss": float(found.total.detach()), "gradient": length}
        )
        self.step += 1
        if own.rank == 0:
            self._record()

    def keep(self) -> None:
        """Writes the checkpoint and the averaged weights."""
        if self._own.rank == 0:
            save_checkpoint(
                self._folder / _CHECKPOINT,
                {
                    "recipe": self._recipe,
                    "step": self.step,
                    "figures": self._figures,
                    "model": self._model.state_dict(),
                    "average": self._average,
                    "optimiser": self._optimiser.state_dict(),
                },
            )
            save_weights(self._folder / sam2.LITE_WEIGHTS.name, self._average)

    def _update(self) -> float:
        """The optimiser's step on the team's mean gradient, whose length is returned."""
        import torch

        for weight in self._weights:
            if weight.grad is None:  # of a prompt that this batch has not
                weight.grad = torch.zeros_like(weight)
        gradients = [weight.grad for weight in self._weights if weight.grad is not None]
        self._own.average(gradients)
        length = torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate()
        self._optimiser.step()
        self._optimiser.zero_grad()
        # Averages over few steps at first, as the first weights are random.
        keep = min(self._config.ema, (self.step + 1) / (self.step + 20))
        with torch.no_grad():
            for name, tensor in self._model.state_dict().items():
                self._average[name].lerp_(tensor, 1 - keep)
        return float(length)

    def _rate(self) -> float:
        """Learning rate of this step: up a line, then down a cosine to zero."""
        config, step = self._config, self.step + 1
        fall = 0.5 * (1 + math.cos(math.pi * step / config.steps))
        return config.learning_rate * min(1.0, step / config.warmup) * fall

    def _record(self) -> None:
        """The log's row and the checkpoint, where they are due."""
        if self.step % self._config.log_every == 0:
            names = {name for figures in self._figures for name in figures}
            means = {
                name: float(np.mean([f[name] for f in self._figures if name in f]))
                for name in names
            }
            rate = self._optimiser.param_groups[0]["lr"]
            self._log.write({"step": self.step, "learning_rate": rate, **means})
            self._figures = []
        if self.step % self._config.save_every == 0:
            self.keep()


def _attend_exactly(model: Any) -> None:
    """Attention in float32 also under autocast: its backward pass in bfloat16 is slow on a CPU."""
    for module in model.sam_mask_decoder.transformer.modules():
        if hasattr(module, "q_proj"):
            module.forward = partial(_attend, module)


def _attend(attention: Any, q: "Tensor", k: "Tensor", v: "Tensor") -> "Tensor":
    """What `sam2.modeling.sam.transformer.Attention.forward` computes."""
    import torch
    from torch.nn import functional

    projections = (attention.q_proj(q), attention.k_proj(k), attention.v_proj(v))
    q, k, v = (
        x.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2).float() for x in projections
    )
    with torch.autocast("cpu", enabled=False):
        read = functional.scaled_dot_product_attention(q, k, v)
    result: Tensor = attention.out_proj(read.transpose(1, 2).flatten(2))
    return result
