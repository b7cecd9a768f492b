"""CLIP-Adapter (Gao et al. 2021, "CLIP-Adapter", section 3): a bottleneck beside the feature.

    a = relu(relu(f W1) W2)                     W1: (D, D / reduction), W2 back; no biases
    f' = unit(ratio * a + (1 - ratio) * f)
    logits = f' t^T / T                         t the class texts, T the encoder's temperature

f is the image feature, L2-normalised. Only the image side is adapted. The ratio .2 is that of the
authors' code (gaopengcuhk/CLIP-Adapter, ``clip_adapter.py``, a trainer for KaiyangZhou/CoOp), the
schedule is CoOp's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import ClipAdapterConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.heads.common import mean_probabilities, view_rows
from medfocus_pipeline.heads.many import drawn, in_groups
from medfocus_pipeline.heads.prompt_learning import descend, epochs_of
from medfocus_pipeline.heads.protocol import ManyHead, TrainingSet
from medfocus_pipeline.heads.zeroshot import Texts
from medfocus_pipeline.types import JSON, FloatArray
from medfocus_pipeline.vectors import normalise

if TYPE_CHECKING:
    from torch import Tensor

    from medfocus_pipeline.heads.prompt_learning import Parameters


@dataclass(frozen=True, slots=True)
class ClipAdapterHead(ManyHead["FittedClipAdapter"]):
    """The adapter trained by SGD on cross-entropy; texts stay as they are."""

    config: ClipAdapterConfig

    def fit_many(
        self, trains: Sequence[TrainingSet], rngs: Sequence[np.random.Generator]
    ) -> list["FittedClipAdapter"]:
        """Train on several subsets side by side."""
        with single_threaded("torch"):
            return in_groups(trains, rngs, train=self.train)

    def train(
        self, trains: list[TrainingSet], rngs: list[np.random.Generator]
    ) -> list["FittedClipAdapter"]:
        """Train sets of as many images."""
        import torch

        config = self.config
        trains = [replace(one, features=normalise(one.features)) for one in trains]
        texts = [Texts.of(train, head="clip_adapter") for train in trains]
        classifier = torch.from_numpy(
            np.stack([one.vectors.T / np.float32(one.temperature) for one in texts])
        )
        down, up = initial(rngs, trains[0].features.shape[2], reduction=config.reduction)

        def logits(weights: "Parameters", images: "Tensor") -> "Tensor":
            return adapt(images, weights["down"], weights["up"], ratio=config.ratio) @ classifier

        epochs = epochs_of(trains[0], config=config)
        start = {"down": down, "up": up}
        trained = descend(start, logits, trains, rngs, epochs=epochs, config=config)
        first, second = trained["down"].numpy(), trained["up"].numpy()
        chosen: JSON = {"epochs": epochs}
        return [
            FittedClipAdapter(first[run].copy(), second[run].copy(), config.ratio, one, chosen)
            for run, one in enumerate(texts)
        ]


def initial(
    rngs: Sequence[np.random.Generator], dim: int, *, reduction: int
) -> tuple["Tensor", "Tensor"]:
    """W1 ``(B, dim, hidden)`` and W2 ``(B, hidden, dim)``, uniform in 1 / sqrt(inputs)."""
    hidden = max(1, dim // reduction)
    down = drawn(rngs, dim, hidden) / math.sqrt(dim)
    up = drawn(rngs, hidden, dim) / math.sqrt(hidden)
    return down, up


def adapt(unit: "Tensor", down: "Tensor", up: "Tensor", *, ratio: float) -> "Tensor":
    """The module's f', ``(..., b, D)``, for L2-normalised f of the same shape."""
    from torch.nn.functional import normalize

    adapted = ((unit @ down).relu() @ up).relu()
    return normalize(ratio * adapted + (1 - ratio) * unit, dim=-1)


@dataclass(frozen=True, slots=True)
class FittedClipAdapter:
    """A trained adapter and the class texts.

    Attributes:
        down: ``(D, hidden) float32``, W1.
        up: ``(hidden, D) float32``, W2.
        ratio: share of the adapted feature.
        texts: of the classes.
        chosen: ``{"epochs": ...}``.
    """

    down: FloatArray
    up: FloatArray
    ratio: float
    texts: Texts
    chosen: JSON

    def predict_proba(self, features: FloatArray) -> NDArray[np.float64]:
        """``(m, K) float64``, mean over the views."""
        unit = normalise(view_rows(features))
        with single_threaded():
            adapted = np.maximum(np.maximum(unit @ self.down, 0) @ self.up, 0)
            mixed = normalise(self.ratio * adapted + (1 - self.ratio) * unit)
            logits = self.texts.zero_shot(mixed)
        return mean_probabilities(logits, views=features.shape[1])
