"""CoOp: a context of learned tokens before the class names (Zhou et al. 2022).

"Learning to Prompt for Vision-Language Models", IJCV 2022, section 3: class k's prompt is
[start] v_1 ... v_M [name of k], the v shared by all classes; with g the frozen text tower, f an
image and tau the encoder's temperature,

    p(k | f) = softmax_k(cos(f, g(prompt k)) / tau)

and cross-entropy trains the v alone. Images are the cached features, in one of their views
each time, in place of random crops.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import CoOpConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.encoders.prompt_tower import PromptSource
from medfocus_pipeline.encoders.text_transformer import PromptTower
from medfocus_pipeline.heads.common import softmax
from medfocus_pipeline.heads.prompt_learning import (
    class_names,
    descend,
    epochs_of,
    image_vectors,
    side_by_side,
)
from medfocus_pipeline.heads.protocol import ManyHead, TrainingSet
from medfocus_pipeline.types import JSON, FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    from medfocus_pipeline.heads.prompt_learning import Parameters

SPREAD = 0.02
"""Standard deviation of a context that does not start from words."""


@dataclass(frozen=True, slots=True)
class CoOpHead(ManyHead["FittedCoOp"]):
    """A shared context, class names at its end; `TrainingSet.prompts` is needed."""

    config: CoOpConfig

    def fit_many(
        self, trains: Sequence[TrainingSet], rngs: Sequence[np.random.Generator]
    ) -> list["FittedCoOp"]:
        """Train the contexts of several subsets at once, side by side where they are as large."""
        train = partial(train_contexts, config=self.config)
        return side_by_side(trains, rngs, head=self.config.name, train=train)


def train_contexts(
    trains: Sequence[TrainingSet],
    rngs: Sequence[np.random.Generator],
    *,
    source: PromptSource,
    config: CoOpConfig,
) -> list["FittedCoOp"]:
    """Train R contexts side by side on R sets of as many images, of `image_vectors`."""
    import torch
    from torch.nn.functional import normalize

    tower = source.open()
    start = {"context": torch.stack([initial(tower, config=config, rng=rng) for rng in rngs])}
    bundle = tower.bundle(class_names(source.phrases), context=start["context"].shape[1])

    def texts(parameters: "Parameters") -> "Tensor":
        return normalize(tower.encode_bundle(parameters["context"], bundle), dim=2)

    def logits(parameters: "Parameters", images: "Tensor") -> "Tensor":
        return images @ texts(parameters).mT / tower.temperature

    epochs = epochs_of(trains[0], config=config)
    trained = descend(start, logits, trains, rngs, epochs=epochs, config=config)
    contexts = trained["context"].numpy()
    with torch.no_grad():
        learned = texts(trained).numpy()
    return [
        FittedCoOp(context, text, tower.temperature, {"epochs": epochs})
        for context, text in zip(contexts, learned, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class FittedCoOp:
    """The texts that a trained context makes; the tower is not needed any more.

    Attributes:
        context: ``(M, w) float32``.
        texts: ``(K, d) float32``, L2-normalised.
        temperature: of the softmax over cosines.
        chosen: ``{"epochs": ...}``.
    """

    context: FloatArray
    texts: FloatArray
    temperature: float
    chosen: JSON

    def predict_proba(self, features: FloatArray) -> NDArray[np.float64]:
        """``(m, K) float64``, mean over the views of the softmax."""
        with single_threaded():
            cosines = image_vectors(features, dim=self.texts.shape[1]) @ self.texts.T
        mean: NDArray[np.float64] = softmax(cosines.astype(np.float64) / self.temperature).mean(
            axis=1
        )
        return mean


def initial(tower: PromptTower, *, config: CoOpConfig, rng: np.random.Generator) -> "Tensor":
    """``(M, w) float32``: the words' embeddings, or M draws."""
    import torch

    if config.initial is not None:
        return tower.words(config.initial)
    drawn = rng.normal(scale=SPREAD, size=(config.context, tower.width))
    return torch.from_numpy(drawn.astype(np.float32))
