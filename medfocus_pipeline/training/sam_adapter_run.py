"""How SAM-Adapter is trained, and what a step of it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from medfocus_pipeline.sam.sam_model import image_size, mask_side
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.segmenters.sam_adapter import put_tensors
from medfocus_pipeline.segmenters.sam_adapter_layers import AdaptedSam
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.training.loop import StepsConfig, Training
from medfocus_pipeline.training.sam_adapter_data import Example, batch
from medfocus_pipeline.training.sam_adapter_losses import losses, mean_iou
from medfocus_pipeline.types import JSON, Device
from medfocus_pipeline.weights import FileHashes, Weights

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = (
    *("step", "learning_rate", "gradient", "loss", "entropy", "overlap", "score"),
    *("iou", "held_out_iou"),
)
"""Of the log: means since the row before, but the last, which is measured on held-out images."""


class SamAdapterTraining(StepsConfig):
    """How an adapter is trained.

    Attributes:
        model: the SAM, a hub id or a folder that `save_pretrained` wrote.
        revision: branch, tag or commit on the hub; None is the cached or default one.
        seed: of the held-out images, the initial weights and the batches.
        learning_rate: the paper's 2e-4.
        reduction: how many times narrower than SAM's tokens the adapters are.
        low_frequencies: share of the spectrum that the high-frequency components lack.
        held_out: share of the annotated training images that only measure.
        device: where the model runs.
    """

    model: str = "facebook/sam-vit-base"
    revision: str | None = None
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


class SamAdapterSteps(Training):
    """The adapters and the mask decoder between two steps.

    Args:
        sam: on its device, frozen as it should be.
        config: how it is trained.
        learning: the examples to learn from.
        aside: the held-out examples.
        recipe: what the adapter is made from.
        folder: of the checkpoint, the log and the recipe.

    Attributes:
        held_out: mean IoU with the held-out outlines, each time that it was measured.
    """

    columns = COLUMNS

    def __init__(
        self,
        sam: AdaptedSam,
        config: SamAdapterTraining,
        learning: Sequence[Example],
        aside: Sequence[Example],
        recipe: JSON,
        folder: Path,
    ) -> None:
        import torch

        weights = list(sam.trained().values())
        optimiser = torch.optim.AdamW(weights, weight_decay=config.weight_decay)
        super().__init__(weights, optimiser, config, recipe, folder)
        self._sam, self._config, self._learning, self._aside = sam, config, learning, aside
        self.held_out: list[float] = []

    def loss(self) -> "tuple[Tensor, dict[str, float]]":
        """Of a batch, half of it mirrored.

        Raises:
            ImageError: an image cannot be read any more.
        """
        rng = generator("sam-adapter", self._config.seed, self.step)
        size = min(self._config.batch_size, len(self._learning))
        chosen = [self._learning[index] for index in rng.permutation(len(self._learning))[:size]]
        mirror = (rng.random(size) < 0.5).tolist()
        model = self._sam.model
        side, cells = image_size(model), mask_side(model)
        pixels, targets = batch(chosen, side=side, cells=cells, mirror=mirror)
        device = model.device
        found = losses(self._sam, pixels.to(device), targets.to(device))
        total = found["entropy"] + found["overlap"] + found["score"]
        return total, {name: float(value.detach()) for name, value in found.items()}

    def measured(self) -> dict[str, float]:
        """Mean IoU with the held-out outlines."""
        self.held_out.append(mean_iou(self._sam, self._aside))
        return {"held_out_iou": self.held_out[-1]}

    def state(self) -> dict[str, Any]:
        """What is trained, and what was measured."""
        trained = {name: tensor.detach().cpu() for name, tensor in self._sam.trained().items()}
        return {"held_out": self.held_out, "trained": trained}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what is trained and what was measured."""
        self.held_out = state["held_out"]
        put_tensors(self._sam, state["trained"])
