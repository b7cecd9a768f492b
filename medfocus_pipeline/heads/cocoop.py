"""CoCoOp: a learned context that a small network shifts for each image (Zhou et al. 2022).

"Conditional Prompt Learning for Vision-Language Models", CVPR 2022, section 3.2: with f an
image and h the network (linear, ReLU, linear), class k's prompt is

    [start] v_1 + h(f) ... v_M + h(f) [name of k]

and p(k | f) that of CoOp. Every image has class texts of its own, so that each goes through the
text tower with all classes, in training and in prediction. The recipe is the authors' (code of
KaiyangZhou/CoOp, ``configs/trainers/CoCoOp/vit_b16_c4_ep10_batch1_ctxv1.yaml``): one image a step.
Larger batches take fewer steps in the same ten epochs and learn less: with eight, .452 in the
place of .738 on a brain MRI set at 100 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import CoCoOpConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.encoders.prompt_tower import PromptSource
from medfocus_pipeline.encoders.text_transformer import Bundle, PromptTower
from medfocus_pipeline.heads.common import softmax
from medfocus_pipeline.heads.prompt_learning import (
    class_names,
    descend,
    image_vectors,
    side_by_side,
)
from medfocus_pipeline.heads.protocol import ManyHead, TrainingSet
from medfocus_pipeline.types import JSON, FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    from medfocus_pipeline.heads.prompt_learning import Parameters

TOKENS = 8192
"""That go through the tower at once in prediction, all texts of all images; bounds memory."""


@dataclass(frozen=True, slots=True)
class CoCoOpHead(ManyHead["FittedCoCoOp"]):
    """A context shifted by each image; `TrainingSet.prompts` is needed."""

    config: CoCoOpConfig

    def fit_many(
        self, trains: Sequence[TrainingSet], rngs: Sequence[np.random.Generator]
    ) -> list["FittedCoCoOp"]:
        """Train several subsets at once, side by side where they are as large."""
        train = partial(train_networks, config=self.config)
        return side_by_side(trains, rngs, head=self.config.name, train=train)


def train_networks(
    trains: Sequence[TrainingSet],
    rngs: Sequence[np.random.Generator],
    *,
    source: PromptSource,
    config: CoCoOpConfig,
) -> list["FittedCoCoOp"]:
    """Train R contexts and networks on R sets of as many images, of `image_vectors`."""
    import torch

    tower = source.open()
    starts = [initial(tower, config=config, rng=rng) for rng in rngs]
    start = {name: torch.stack([one[name] for one in starts]) for name in starts[0]}
    bundle = tower.bundle(class_names(source.phrases), context=start["context"].shape[1])
    logits = partial(conditional_logits, tower=tower, bundle=bundle)
    trained = descend(start, logits, trains, rngs, epochs=config.epochs, config=config)
    return [
        FittedCoCoOp({name: value[run].numpy() for name, value in trained.items()}, source, {})
        for run in range(len(trains))
    ]


@dataclass(frozen=True, slots=True)
class FittedCoCoOp:
    """A trained context and network; the text tower is opened again to predict.

    Attributes:
        weights: the arrays of `initial`.
        source: of the text tower.
        chosen: nothing.
    """

    weights: dict[str, FloatArray]
    source: PromptSource
    chosen: JSON

    def predict_proba(self, features: FloatArray) -> NDArray[np.float64]:
        """``(m, K) float64``, mean over the views of the softmax.

        Every view of every image sends K texts through the tower, some `TOKENS` at once.
        """
        import torch

        with single_threaded("torch"):
            tower = self.source.open()
            weights = {name: torch.tensor(value)[None] for name, value in self.weights.items()}
            bundle = tower.bundle(
                class_names(self.source.phrases), context=weights["context"].shape[1]
            )
            vectors = torch.from_numpy(image_vectors(features, dim=tower.dim)).flatten(0, 1)
            rows = max(1, TOKENS // len(bundle.mask))
            with torch.inference_mode():
                found = [
                    conditional_logits(weights, part[None], tower=tower, bundle=bundle)[0]
                    for part in torch.split(vectors, rows)
                ]
                logits = torch.cat(found).double().numpy()
        mean: NDArray[np.float64] = softmax(logits.reshape(*features.shape[:2], -1)).mean(axis=1)
        return mean


def initial(tower: PromptTower, *, config: CoCoOpConfig, rng: np.random.Generator) -> "Parameters":
    """Parameters of one run, float32.

    Returns:
        ``context (M, w)`` from words, and h with PyTorch's own start of a linear layer, uniform
        in +-1 / sqrt(inputs): ``hidden (q, d)``, ``hidden_bias (q,)``, ``shift (w, q)``,
        ``shift_bias (w,)``, q = d / reduction.
    """
    import torch

    def uniform(inputs: int, *shape: int) -> "Tensor":
        bound = 1 / math.sqrt(inputs)
        return torch.from_numpy(rng.uniform(-bound, bound, size=shape).astype(np.float32))

    narrow = max(1, tower.dim // config.reduction)
    return {
        "context": tower.words(config.initial),
        "hidden": uniform(tower.dim, narrow, tower.dim),
        "hidden_bias": uniform(tower.dim, narrow),
        "shift": uniform(narrow, tower.width, narrow),
        "shift_bias": uniform(narrow, tower.width),
    }


def conditional_logits(
    parameters: "Parameters", images: "Tensor", *, tower: PromptTower, bundle: Bundle
) -> "Tensor":
    """Cosines over temperature of images with the texts that are their own.

    Args:
        parameters: `initial`'s of R runs, stacked.
        images: ``(R, b, d) float32``, see `image_vectors`.
        tower: frozen.
        bundle: the class names behind M context tokens.

    Returns:
        ``(R, b, K) float32``.
    """
    from torch.nn.functional import normalize

    # Weights first: a product with their transpose would copy them.
    hidden = (parameters["hidden"] @ images.mT + parameters["hidden_bias"][..., None]).relu()
    shift = (parameters["shift"] @ hidden).mT + parameters["shift_bias"][:, None]
    context = parameters["context"][:, None] + shift[:, :, None]
    texts = normalize(tower.encode_bundle(context.flatten(0, 1), bundle), dim=2)
    cosines = texts @ images.flatten(0, 1)[..., None]
    return cosines.view(*images.shape[:2], -1) / tower.temperature
