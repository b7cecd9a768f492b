"""The loop of a training in steps: one schedule, one checkpoint and one log for all of them.

A step is a function of the weights and of its number, so that a training that was killed goes on
from its last checkpoint to the same numbers.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from medfocus_pipeline.config import Frozen
from medfocus_pipeline.files import replacing
from medfocus_pipeline.schedule import cosine
from medfocus_pipeline.training.checkpoint import CsvLog, load_checkpoint, save_checkpoint
from medfocus_pipeline.training.parallel import Team
from medfocus_pipeline.types import JSON

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

CHECKPOINT, LOG, RECIPE = "checkpoint.pt", "log.csv", "recipe.json"
"""Files of a training's folder, beside the weights."""

Advance = Callable[[int], None]
"""Is told how much more is done."""

_CLIP = 1.0
"""Greatest length of a step's gradient."""


class StepsConfig(Frozen):
    """What all trainings in steps are told; the last two change no numbers.

    Attributes:
        seed: of the initial weights and the batches.
        steps: updates of the weights; the learning rate ends at zero with them.
        warmup: steps until the learning rate is the greatest.
        batch_size: images a step.
        learning_rate: the greatest.
        weight_decay: of AdamW.
        log_every, save_every: steps from one row, one checkpoint, to the next.
    """

    seed: int = Field(default=0, ge=0)
    steps: int = Field(default=1_000, ge=1)
    warmup: int = Field(default=1, ge=1)
    batch_size: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    log_every: int = Field(default=1, ge=1)
    save_every: int = Field(default=100, ge=1)

    def rate(self, step: int) -> float:
        """Learning rate of a step, the first being 0: up a line, then down a cosine to zero."""
        return self.learning_rate * (min(1.0, (step + 1) / self.warmup) * cosine(step, self.steps))


class Training(ABC):
    """A training between two steps: what of it does not depend on what is trained.

    Args:
        weights: what the optimiser changes.
        optimiser: of these.
        config: steps, rates and when to write.
        recipe: what the weights are made from; a checkpoint of another is not gone on with.
        folder: of the checkpoint, the log and the recipe.
        team: the processes that train together; rank 0 writes the files.

    Attributes:
        columns: of the log: ``step``, and names among ``learning_rate``, ``loss``, ``gradient``
            (its length before clipping) and what `loss`, `updated` and `measured` return; means
            since the row before.
        step: how many are done.
    """

    columns: ClassVar[Sequence[str]]

    def __init__(
        self,
        weights: "Sequence[Tensor]",
        optimiser: "Optimizer",
        config: StepsConfig,
        recipe: JSON,
        folder: Path,
        *,
        team: Team | None = None,
    ) -> None:
        self.step = 0
        self._weights, self._optimiser, self._pace = weights, optimiser, config
        self._recipe, self._folder, self._team = recipe, folder, team or Team()
        self._log = CsvLog(folder / LOG, self.columns)
        self._figures: list[dict[str, float]] = []

    @abstractmethod
    def loss(self) -> "tuple[Tensor, dict[str, float]]":
        """What this step minimises, ``()``, and figures of it."""

    def updated(self) -> dict[str, float]:
        """After the weights changed, before `step` does: figures of them."""
        return {}

    def measured(self) -> dict[str, float]:
        """Before each checkpoint: figures that are too dear for each step.

        Raises:
            WeightsError: the training diverged; the checkpoint before it stays.
        """
        return {}

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of what is trained."""

    @abstractmethod
    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what a checkpoint kept."""

    def resume(self) -> bool:
        """Go on from the checkpoint in the folder; False if there is none.

        Raises:
            ConfigError: it is of a training with another recipe.
            WeightsError: it cannot be read.
        """
        state = load_checkpoint(self._folder / CHECKPOINT, recipe=self._recipe)
        if state is not None:
            self.step = state["step"]
            self._figures = state.get("figures", [])  # lite-clip's had none once
            self.load(state)
            self._optimiser.load_state_dict(state["optimiser"])
        if self._team.rank == 0:
            self._log.cut(self.step)
            with replacing(self._folder / RECIPE) as temporary:
                temporary.write_text(json.dumps(self._recipe, indent=1) + "\n", encoding="utf-8")
        return state is not None

    def run(self, advance: Advance) -> None:
        """All steps that are left; `advance` is told first how many were done before.

        Raises:
            WeightsError: the training diverged.
        """
        advance(self.step)
        while self.step < self._pace.steps:
            self.advance()
            advance(1)

    def advance(self) -> None:
        """One step, and the log's row and the checkpoint where they are due."""
        loss, figures = self.loss()
        gradient = self._update(loss)
        own = {"loss": float(loss.detach()), "gradient": gradient}
        self._figures.append(figures | own | self.updated())
        self.step += 1
        if self._team.rank == 0:
            self._record()

    def _update(self, loss: "Tensor") -> float:
        """The optimiser's step on the team's mean gradient, whose length is returned."""
        import torch

        torch.autograd.backward(loss)
        for weight in self._weights:
            if weight.grad is None:  # of what this batch has not
                weight.grad = torch.zeros_like(weight)
        self._team.average([one.grad for one in self._weights if one.grad is not None])
        length = torch.nn.utils.clip_grad_norm_(self._weights, _CLIP)
        for group in self._optimiser.param_groups:
            group["lr"] = self._pace.rate(self.step)
        self._optimiser.step()
        self._optimiser.zero_grad()
        return float(length)

    def _record(self) -> None:
        saving = self.step % self._pace.save_every == 0 or self.step == self._pace.steps
        measured = self.measured() if saving else {}
        if measured or self.step % self._pace.log_every == 0:
            rate = self._optimiser.param_groups[0]["lr"]
            found = _means(self._figures) | measured
            self._log.write({"step": self.step, "learning_rate": rate, **found})
            self._figures = []
        if saving:
            self._save()

    def _save(self) -> None:
        state = {
            "recipe": self._recipe,
            "step": self.step,
            "figures": self._figures,
            "optimiser": self._optimiser.state_dict(),
        }
        save_checkpoint(self._folder / CHECKPOINT, state | self.state())


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each figure over the steps that have it."""
    names = {name for row in rows for name in row}
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
