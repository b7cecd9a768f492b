"""A training of sam2-lite between two steps: the weights, their averages, the files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from medfocus_pipeline.config import Frozen
from medfocus_pipeline.files import replacing
from medfocus_pipeline.sam import sam2_lite
from medfocus_pipeline.schedule import cosine
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.training.checkpoint import (
    CsvLog,
    load_checkpoint,
    save_checkpoint,
    save_weights,
)
from medfocus_pipeline.training.feature_cache import FeatureCache
from medfocus_pipeline.training.parallel import Team
from medfocus_pipeline.training.sam2_losses import draw_batch, losses
from medfocus_pipeline.training.sam2_model import attend_exactly
from medfocus_pipeline.types import JSON
from medfocus_pipeline.weights import FileHashes

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

CHECKPOINT, LOG, RECIPE = "checkpoint.pt", "log.csv", "recipe.json"
"""Files of a training's folder, beside the weights."""

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
        start: weights of an earlier training to go on from; None starts from random ones.
        steps: updates of the weights; the learning rate ends at zero with them.
        batch_size: images a step and worker, of five prompts each.
        workers: processes of one thread each.
        learning_rate: the greatest, after `warmup` steps or a tenth of all.
        ema: decay of the averaged weights, which are the ones kept.
        log_every, save_every: steps from one row, one checkpoint, to the next.
    """

    phantoms: int = Field(default=9_600, ge=1)
    seed: int = Field(default=0, ge=0)
    start: Path | None = None
    steps: int = Field(default=3_600, ge=1)
    batch_size: int = Field(default=8, ge=1)
    workers: int = Field(default=2, ge=1, le=16)
    learning_rate: float = Field(default=8e-4, gt=0)
    warmup: int = Field(default=200, ge=1)
    weight_decay: float = Field(default=0.05, ge=0)
    ema: float = Field(default=0.999, ge=0, lt=1)
    log_every: int = Field(default=50, ge=1)
    save_every: int = Field(default=250, ge=1)

    def recipe(self, features: JSON) -> JSON:
        """What the weights are made from; a checkpoint of another recipe is not gone on with.

        Args:
            features: what the features are made from, see `feature_cache.describe`.
        """
        settings = self.model_dump(exclude={"log_every", "save_every", "start"})
        if self.start is not None:
            start = sam2_lite.find_weights(self.start, FileHashes())
            settings["start"] = start.identity.files[sam2_lite.CHECKPOINT]
        return {**settings, "features": features}


class TrainingState:
    """A training between two steps: the model, its averages, the optimiser, the files.

    Args:
        model: from `initial_model`; its trunk is taken off, as features come from a cache.
        config: how it is trained.
        recipe: what the weights are made from.
        folder: of the checkpoint, the log, the recipe and the weights.
        own: the process; rank 0 writes the files.
    """

    def __init__(
        self, model: Any, config: Sam2LiteTraining, recipe: JSON, folder: Path, own: Team
    ) -> None:
        import torch

        self.step = 0
        self._model, self._config, self._recipe, self._own = model, config, recipe, own
        self._folder = folder
        self._log = CsvLog(folder / LOG, COLUMNS)
        self._figures: list[dict[str, float]] = []
        model.image_encoder.trunk = torch.nn.Identity()
        attend_exactly(model)
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self._optimiser = _optimiser(self._weights, config)

    def resume(self) -> None:
        """Goes on from the checkpoint in the folder, if there is one.

        Raises:
            ConfigError: it is of a run with another recipe.
            WeightsError: it cannot be read.
        """
        state = load_checkpoint(self._folder / CHECKPOINT, recipe=self._recipe)
        if state is not None:
            self.step = state["step"]
            self._figures = state["figures"]
            self._model.load_state_dict(state["model"])
            self._average = state["average"]
            self._optimiser.load_state_dict(state["optimiser"])
        if self._own.rank == 0:
            self._log.cut(self.step)
            with replacing(self._folder / RECIPE) as temporary:
                temporary.write_text(json.dumps(self._recipe, indent=1) + "\n", encoding="utf-8")

    def advance(self, cache: FeatureCache) -> None:
        """One step: each process its batch, all the same update.

        Raises:
            WeightsError: the training diverged, which is seen when weights are written.
        """
        import torch

        config, own = self._config, self._own
        rng = generator("sam2-lite", config.seed, self.step, own.rank)
        side = self._model.image_size // 4
        batch = draw_batch(cache, config.batch_size, side, rng)
        found = losses(self._model, batch, torch.Generator().manual_seed(int(rng.integers(2**63))))
        torch.autograd.backward(found.total)
        length = self._update()
        self.step += 1
        if own.rank == 0:
            loss = float(found.total.detach())
            self._record(found.figures | {"loss": loss, "gradient": length})

    def keep(self) -> None:
        """Writes the averaged weights and the checkpoint.

        Raises:
            WeightsError: the training diverged; the checkpoint before it stays.
        """
        if self._own.rank == 0:
            save_weights(self._folder / sam2_lite.TRAINED.name, self._average)
            state = {
                "recipe": self._recipe,
                "step": self.step,
                "figures": self._figures,
                "model": self._model.state_dict(),
                "average": self._average,
                "optimiser": self._optimiser.state_dict(),
            }
            save_checkpoint(self._folder / CHECKPOINT, state)

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
        warmup = max(1, min(config.warmup, config.steps // 10))
        return config.learning_rate * min(1.0, step / warmup) * cosine(step, config.steps)

    def _record(self, figures: dict[str, float]) -> None:
        """The log's row and the checkpoint, where they are due."""
        self._figures.append(figures)
        if self.step % self._config.log_every == 0:
            rate = self._optimiser.param_groups[0]["lr"]
            self._log.write({"step": self.step, "learning_rate": rate, **_means(self._figures)})
            self._figures = []
        if self.step % self._config.save_every == 0:
            self.keep()


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of each figure over the steps that have it."""
    names = {name for row in rows for name in row}
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}


def _optimiser(weights: "Sequence[Tensor]", config: Sam2LiteTraining) -> "Optimizer":
    """AdamW; biases, norms and single embeddings do not decay."""
    import torch

    matrices = [weight for weight in weights if weight.dim() >= 2 and len(weight) >= 2]
    vectors = [weight for weight in weights if weight.dim() < 2 or len(weight) < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
