"""Trains lite-clip: a projection and a text tower, contrastively, on phantoms and their captions.

Stage one embeds phantoms with the frozen network, once; stage two learns from these features in
minutes. The loss is CLIP's (Radford et al. 2021, figure 3), but for images of one class being
alike: half of the target is an image's own caption, half is shared by all captions of its class.
The class prompts, in templates that no card has, are learned beside it as the classes' texts.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.encoders.lite_clip import TENSORS, TOKENIZER, make_text_tower
from medfocus_pipeline.training.lessons import Batch, Lesson, draw_batch, make_lesson
from medfocus_pipeline.training.lite_clip_export import export
from medfocus_pipeline.training.loop import Advance, StepsConfig, Training
from medfocus_pipeline.training.phantom_pairs import PhantomPlan, drawn_digest, embed_phantoms
from medfocus_pipeline.training.tokenizer import SPECIAL
from medfocus_pipeline.types import JSON, FocusMode

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "weights"
"""Folder of the trained weights in the training's own."""

_FIRST_TEMPERATURE, _LEAST_TEMPERATURE = 0.07, 0.01
"""As in CLIP; below the latter, the loss hangs on a few pairs."""


class LiteClipTraining(StepsConfig):
    """How lite-clip is trained; `workers` changes no numbers either.

    Attributes:
        phantoms: images, all kinds in turn; each is embedded twice.
        seed: of phantoms, initial weights and batches.
        focus: modes besides `original` that phantoms are embedded in.
        captions: how many of a step's images come with their captions; the others with class
            prompts only.
        feature_noise: share of an image's features that a step leaves out.
        word_noise: share of the words that a step replaces by any others.
        dim: of the space that images and texts are projected to.
        width, layers, heads, length: of the text tower; length in tokens.
        vocabulary: entries of the tokenizer at most.
        workers: threads that draw phantoms.
    """

    phantoms: int = Field(default=4_500, ge=1)
    focus: tuple[FocusMode, ...] = Field(default=("segmented", "overlay", "crop"), min_length=1)
    steps: int = Field(default=600, ge=1)
    warmup: int = Field(default=100, ge=1)
    batch_size: int = Field(default=1024, ge=2)
    captions: int = Field(default=128, ge=2)
    feature_noise: float = Field(default=0.2, ge=0, lt=1)
    word_noise: float = Field(default=0.1, ge=0, lt=1)
    dim: int = Field(default=256, ge=1)
    width: int = Field(default=128, ge=8)
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=4, ge=1)
    length: int = Field(default=48, ge=8)
    vocabulary: int = Field(default=2048, ge=128)
    workers: int = Field(default=2, ge=1, le=64)

    @property
    def plan(self) -> PhantomPlan:
        """The phantoms to learn from."""
        return PhantomPlan(self.phantoms, self.seed, self.focus)

    def recipe(self) -> JSON:
        """What the weights are made from; a checkpoint of another recipe is not gone on with."""
        changing = self.model_dump(mode="json", exclude={"workers", "log_every", "save_every"})
        return changing | {"drawings": drawn_digest(self.seed)}


def prepare(config: LiteClipTraining, folder: Path, *, advance: Advance) -> None:
    """Draws and embeds the phantoms, all or those that an earlier call left.

    Args:
        config: which phantoms.
        folder: the training's; the embeddings go into stores in it.
        advance: is told how many embeddings are there more.

    Raises:
        StoreError: the disk is full, or another process writes there.
        WeightsError: the network's package is not installed.
    """
    embed_phantoms(folder, config.plan, workers=config.workers, advance=advance)


def train(config: LiteClipTraining, folder: Path, *, advance: Advance) -> Path:
    """Trains lite-clip on what `prepare` made, or goes on where an earlier call stopped.

    Args:
        config: how.
        folder: of the embeddings, the checkpoint, the log and the weights.
        advance: is told how many steps are done more.

    Returns:
        The trained weights; their folder is what `LiteClipConfig.checkpoint` takes.

    Raises:
        ConfigError: `folder` has a training of another recipe.
        WeightsError: the training diverged.
    """
    pairs = embed_phantoms(folder, config.plan, workers=config.workers, advance=lambda _: None)
    with single_threaded("torch"):
        lesson = make_lesson(
            *(folder / TOKENIZER, pairs),
            seed=config.seed,
            vocabulary=config.vocabulary,
            length=config.length,
        )
        model = make_model(lesson, config)
        training = LiteClipSteps(model, config, lesson, folder)
        training.resume()
        training.run(advance)
        export(folder / WEIGHTS, folder / TOKENIZER, model.eval(), lesson)
    return folder / WEIGHTS / TENSORS


def make_model(lesson: Lesson, config: LiteClipTraining) -> Any:
    """The projection ``image``, the text tower ``text`` and ``scale``, log(1 / temperature)."""
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
        model.scale = torch.nn.Parameter(torch.tensor(-math.log(_FIRST_TEMPERATURE)))
    return model


def loss(model: Any, batch: Batch) -> "Tensor":
    """Contrastive loss of images and captions, plus cross-entropy over the class prompts."""
    from torch.nn.functional import cross_entropy, normalize

    images = normalize(model.image(batch.features), dim=1)
    texts = normalize(model.text(batch.tokens).text_embeds, dim=1)
    similarity = images @ texts.T * model.scale.exp()
    count = batch.captions
    pairs, prompts = similarity[:count, :count], similarity[:, count:]
    labels = batch.labels[:count]
    alike = (labels[:, None] == labels).float()
    targets = (alike / alike.sum(dim=1) + alike.new_ones(count).diag()) / 2
    contrastive = (cross_entropy(pairs, targets) + cross_entropy(pairs.T, targets)) / 2
    return contrastive + cross_entropy(prompts, batch.labels)


class LiteClipSteps(Training):
    """The model between two steps.

    Args:
        model: from `make_model`.
        config: how it is trained.
        lesson: what it learns from.
        folder: of the checkpoint, the log and the recipe.
    """

    columns = ("step", "loss", "temperature")

    def __init__(self, model: Any, config: LiteClipTraining, lesson: Lesson, folder: Path) -> None:
        import torch

        weights = list(model.parameters())
        optimiser = torch.optim.AdamW(weights, weight_decay=config.weight_decay)
        super().__init__(weights, optimiser, config, config.recipe(), folder)
        self._model, self._config, self._lesson = model.train(), config, lesson

    def loss(self) -> "tuple[Tensor, dict[str, float]]":
        """Of a batch."""
        config = self._config
        batch = draw_batch(
            *(self._lesson, self.step),
            seed=config.seed,
            batch_size=config.batch_size,
            captions=config.captions,
            feature_noise=config.feature_noise,
            word_noise=config.word_noise,
        )
        return loss(self._model, batch), {}

    def updated(self) -> dict[str, float]:
        """Keeps the temperature above the least one."""
        import torch

        scale = self._model.scale
        with torch.no_grad():
            scale.clamp_(max=-math.log(_LEAST_TEMPERATURE))
        return {"temperature": math.exp(-float(scale.detach()))}

    def state(self) -> dict[str, Any]:
        """The model's weights."""
        return {"model": self._model.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over the model's weights."""
        self._model.load_state_dict(state["model"])
