"""A training of SAM-Adapter between two steps: how it is done, the model, the files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from medfocus_pipeline.config import Frozen
from medfocus_pipeline.sam.sam_model import image_size, mask_side
from medfocus_pipeline.schedule import cosine
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.segmenters.sam_adapter import put_tensors
from medfocus_pipeline.segmenters.sam_adapter_layers import AdaptedSam
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.training.checkpoint import CsvLog, load_checkpoint, save_checkpoint
from medfocus_pipeline.training.sam_adapter_data import Example, batch
from medfocus_pipeline.training.sam_adapter_losses import losses, mean_iou
from medfocus_pipeline.types import JSON, Device
from medfocus_pipeline.weights import FileHashes, Weights

CHECKPOINT, LOG = "checkpoint.pt", "log.csv"
"""Files of a training's folder, beside the adapter."""

COLUMNS = (
    *("step", "learning_rate", "gradient", "loss", "entropy", "overlap", "score"),
    *("iou", "held_out_iou"),
)
"""Of the log: means since the row before, but the last, which is measured on held-out images."""


class SamAdapterTraining(Frozen):
    """How an adapter is trained; all but the last three attributes change numbers.

    Attributes:
        model: the SAM, a hub id or a folder that `save_pretrained` wrote.
        revision: branch, tag or commit on the hub; None is the cached or default one.
        seed: of the held-out images, the initial weights and the batches.
        steps: updates of the weights; the learning rate ends at zero with them.
        batch_size: images a step.
        learning_rate: the first and greatest; the paper's 2e-4.
        reduction: how many times narrower than SAM's tokens the adapters are.
        low_frequencies: share of the spectrum that the high-frequency components lack.
        held_out: share of the annotated training images that only measure.
        device: where the model runs.
        log_every, save_every: steps from one row, one checkpoint, to the next.
    """

    model: str = "facebook/sam-vit-base"
    revision: str | None = None
    seed: int = Field(default=0, ge=0)
    steps: int = Field(default=1_000, ge=1)
    batch_size: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    reduction: int = Field(default=32, ge=1)
    low_frequencies: float = Field(default=0.25, ge=0, lt=1)
    held_out: float = Field(default=0.2, gt=0, lt=1)
    device: Device = "auto"
    log_every: int = Field(default=20, ge=1)
    save_every: int = Field(default=200, ge=1)

    def recipe(self, weights: Weights, examples: Sequence[Example]) -> JSON:
        """What the adapter is made from; a checkpoint of another recipe is not gone on with.

        Args:
            weights: of the SAM.
            examples: all of them.
        """
        hashes = FileHashes()
        settings = self.model_dump(
            exclude={"model", "revision", "device", "log_every", "save_every"}
        )
        seen = sorted(
            [one.image_id, one.group, *(hashes.sha256(mask) for mask in one.masks)]
            for one in examples
        )
        return {**settings, "sam": weights.identity.files, "images": digest(seen)}


class TrainingState:
    """A training between two steps: the model, the optimiser, the files.

    Args:
        sam: on its device, frozen as it should be.
        config: how it is trained.
        recipe: what the adapter is made from.
        folder: of the checkpoint and the log.
        aside: the held-out examples.
    """

    def __init__(
        self,
        sam: AdaptedSam,
        config: SamAdapterTraining,
        recipe: JSON,
        folder: Path,
        aside: Sequence[Example],
    ) -> None:
        import torch

        self.step = 0
        self.held_out: list[float] = []
        self._sam, self._config, self._recipe, self._aside = sam, config, recipe, aside
        self._folder = folder
        self._log = CsvLog(folder / LOG, COLUMNS)
        self._figures: list[dict[str, float]] = []
        self._weights = list(sam.trained().values())
        self._optimiser: Any = torch.optim.AdamW(
            self._weights, lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def resume(self) -> None:
        """Goes on from the checkpoint in the folder, or measures the untrained model.

        Raises:
            ConfigError: the checkpoint is of a run with another recipe.
            WeightsError: it cannot be read.
        """
        state = load_checkpoint(self._folder / CHECKPOINT, recipe=self._recipe)
        self._log.cut(0 if state is None else state["step"])
        if state is None:
            self._measure()
            return
        self.step, self.held_out, self._figures = (
            state[name] for name in ("step", "held_out", "figures")
        )
        put_tensors(self._sam, state["trained"])
        self._optimiser.load_state_dict(state["optimiser"])

    def advance(self, examples: Sequence[Example]) -> None:
        """One step.

        Raises:
            ImageError: an image cannot be read any more.
        """
        import torch

        config = self._config
        rng = generator("sam-adapter", config.seed, self.step)
        size = min(config.batch_size, len(examples))
        chosen = [examples[index] for index in rng.permutation(len(examples))[:size]]
        mirror = (rng.random(size) < 0.5).tolist()
        model = self._sam.model
        side, cells = image_size(model), mask_side(model)
        pixels, targets = batch(chosen, side=side, cells=cells, mirror=mirror)
        device = model.device
        found = losses(self._sam, pixels.to(device), targets.to(device))
        total = found["entropy"] + found["overlap"] + found["score"]
        total.backward()  # type: ignore[no-untyped-call]
        length = torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        for group in self._optimiser.param_groups:
            group["lr"] = config.learning_rate * cosine(self.step, config.steps)
        self._optimiser.step()
        self._optimiser.zero_grad()
        self.step += 1
        figures = {"loss": total, "gradient": length, **found}
        self._record({name: float(value.detach()) for name, value in figures.items()})

    def _record(self, figures: dict[str, float]) -> None:
        """The log's row and the checkpoint, where they are due."""
        self._figures.append(figures)
        config = self._config
        saving = self.step % config.save_every == 0 or self.step == config.steps
        if saving:
            self._measure()
        if saving or self.step % config.log_every == 0:
            means = {name: float(np.mean([row[name] for row in self._figures])) for name in figures}
            rate = self._optimiser.param_groups[0]["lr"]
            row = {"step": self.step, "learning_rate": rate, **means}
            self._log.write(row | ({"held_out_iou": self.held_out[-1]} if saving else {}))
            self._figures = []
        if saving:
            self._save()

    def _measure(self) -> None:
        self.held_out.append(mean_iou(self._sam, self._aside))

    def _save(self) -> None:
        state = {
            "recipe": self._recipe,
            "step": self.step,
            "held_out": self.held_out,
            "figures": self._figures,
            "trained": {
                name: tensor.detach().cpu() for name, tensor in self._sam.trained().items()
            },
            "optimiser": self._optimiser.state_dict(),
        }
        save_checkpoint(self._folder / CHECKPOINT, state)
