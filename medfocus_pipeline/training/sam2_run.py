"""How sam2-lite is trained, and what a step of it is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from medfocus_pipeline.sam import sam2_lite
from medfocus_pipeline.schedule import cosine
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.training.checkpoint import save_weights
from medfocus_pipeline.training.feature_cache import FeatureCache
from medfocus_pipeline.training.loop import StepsConfig, Training
from medfocus_pipeline.training.parallel import Team
from medfocus_pipeline.training.sam2_losses import draw_batch, losses
from medfocus_pipeline.training.sam2_model import attend_exactly
from medfocus_pipeline.types import JSON
from medfocus_pipeline.weights import FileHashes

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

COLUMNS = (
    *("step", "learning_rate", "gradient", "loss", "mask", "score"),
    *("click", "click_oracle", "box", "correction"),
)
"""Of the log: losses, then the mean IoU of each kind of prompt, since the row before."""


class Sam2LiteTraining(StepsConfig):
    """How sam2-lite is trained.

    Attributes:
        phantoms: images, all kinds of phantoms in turn; their features take 380 kB each.
        seed: of phantoms, initial weights and batches.
        start: weights of an earlier training to go on from; None starts from random ones.
        warmup: a tenth of all steps if these are fewer.
        batch_size: images a step and worker, of five prompts each.
        workers: processes of one thread each.
        ema: decay of the averaged weights, which are the ones kept.
    """

    phantoms: int = Field(default=9_600, ge=1)
    start: Path | None = None
    steps: int = Field(default=3_600, ge=1)
    warmup: int = Field(default=200, ge=1)
    batch_size: int = Field(default=8, ge=1)
    workers: int = Field(default=2, ge=1, le=16)
    learning_rate: float = Field(default=8e-4, gt=0)
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

    def rate(self, step: int) -> float:
        """Learning rate of a step: up a line, then down a cosine to zero."""
        warmup = max(1, min(self.warmup, self.steps // 10))
        reached = min(1.0, (step + 1) / warmup)
        return self.learning_rate * reached * cosine(step + 1, self.steps)


class Sam2LiteSteps(Training):
    """The model between two steps, with the running averages of its weights, which are kept.

    Args:
        model: from `initial_model`; its trunk is taken off, as features come from a cache.
        config: how it is trained.
        cache: of the features.
        recipe: what the weights are made from.
        folder: of the checkpoint, the log, the recipe and the weights.
        own: the process; each has its batches.
    """

    columns = COLUMNS

    def __init__(
        self,
        model: Any,
        config: Sam2LiteTraining,
        cache: FeatureCache,
        recipe: JSON,
        folder: Path,
        own: Team,
    ) -> None:
        import torch

        model.image_encoder.trunk = torch.nn.Identity()
        attend_exactly(model)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        super().__init__(weights, _optimiser(weights, config), config, recipe, folder, team=own)
        self._model, self._config, self._cache, self._own = model, config, cache, own
        self._path = folder / sam2_lite.TRAINED.name
        self.average = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def loss(self) -> "tuple[Tensor, dict[str, float]]":
        """Of the process's own batch."""
        import torch

        rng = generator("sam2-lite", self._config.seed, self.step, self._own.rank)
        side = self._model.image_size // 4
        batch = draw_batch(self._cache, self._config.batch_size, side, rng)
        found = losses(self._model, batch, torch.Generator().manual_seed(int(rng.integers(2**63))))
        return found.total, found.figures

    def updated(self) -> dict[str, float]:
        """Moves the averages."""
        import torch

        # Over few steps at first, as the first weights are random.
        keep = min(self._config.ema, (self.step + 1) / (self.step + 20))
        with torch.no_grad():
            for name, tensor in self._model.state_dict().items():
                self.average[name].lerp_(tensor, 1 - keep)
        return {}

    def measured(self) -> dict[str, float]:
        """Writes the averaged weights.

        Raises:
            WeightsError: one is not finite.
        """
        save_weights(self._path, self.average)
        return {}

    def state(self) -> dict[str, Any]:
        """Weights and averages."""
        return {"model": self._model.state_dict(), "average": self.average}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over weights and averages."""
        self._model.load_state_dict(state["model"])
        self.average = state["average"]


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
