"""Tip-Adapter (Zhang et al. 2022, "Tip-Adapter", section 3): a cache of the training images.

    logits = f t^T / T + alpha exp(-beta (1 - f F^T)) L

f is an image feature, t the class texts and T the encoder's temperature; F are the keys, one for
each training image (the mean over its views), and L their labels, one-hot. Features, texts and
keys are L2-normalised. Tip-Adapter-F trains the keys, which then need not stay so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import TipAdapterConfig, TipAdapterFConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.heads.common import check, mean_probabilities, view_rows
from medfocus_pipeline.heads.many import (
    Minibatch,
    cross_entropy,
    descend,
    in_groups,
    minibatches,
    steps_per_epoch,
)
from medfocus_pipeline.heads.protocol import ManyHead, TrainingSet
from medfocus_pipeline.heads.tip_cache import Trial, choose, mean_keys, one_hot, read, trials_of
from medfocus_pipeline.heads.zeroshot import Texts
from medfocus_pipeline.types import JSON, FloatArray
from medfocus_pipeline.vectors import normalise

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-4
"""Of AdamW in Tip-Adapter-F, as published."""


@dataclass(frozen=True, slots=True)
class TipAdapterHead:
    """The cache as it is; alpha and beta chosen by cross-validation inside the subset."""

    config: TipAdapterConfig

    def fit(self, train: TrainingSet, rng: np.random.Generator) -> "FittedTipAdapter":
        """Choose alpha and beta with caches of folds, then keep every image."""
        check(train)
        texts = Texts.of(train, head="tip_adapter")
        with single_threaded("sklearn.model_selection"):
            trials = [
                Trial(mean_keys(rest), rest, held_out)
                for rest, held_out in trials_of(train, config=self.config, rng=rng)
            ]
            alpha, beta = choose(trials, texts, config=self.config)
        return FittedTipAdapter(mean_keys(train), one_hot(train), texts, alpha, beta)


@dataclass(frozen=True, slots=True)
class TipAdapterFHead(ManyHead["FittedTipAdapter"]):
    """Tip-Adapter-F: the keys trained by AdamW along a cosine at Tip-Adapter's alpha and beta.

    The authors train at a start that they set for each data set (``configs/*.yaml`` of
    gaopengcuhk/Tip-Adapter); here it is the pair that `TipAdapterHead` chooses. A trained cache
    flatters itself on its own images, so alpha and beta are then chosen again with keys that
    are trained on folds, on the images that each fold holds out; the published search reads a
    validation set. The keys of the whole subset are trained in the same way.
    """

    config: TipAdapterFConfig

    def fit_many(
        self, trains: Sequence[TrainingSet], rngs: Sequence[np.random.Generator]
    ) -> list["FittedTipAdapter"]:
        """Choose and train on several subsets side by side."""
        with single_threaded("torch", "sklearn.model_selection"):
            return in_groups(trains, rngs, train=self.choose_and_train)

    def choose_and_train(
        self, trains: list[TrainingSet], rngs: list[np.random.Generator]
    ) -> list["FittedTipAdapter"]:
        """Fit sets of equal size: first all their folds side by side, then they."""
        config = self.config
        splits = [
            trials_of(train, config=config, rng=rng)
            for train, rng in zip(trains, rngs, strict=True)
        ]
        parts = [part for split in splits for part in split]
        spawned = [rng.spawn(len(split)) for rng, split in zip(rngs, splits, strict=True)]
        own = [rng for several in spawned for rng in several]
        texts_of = [Texts.of(train, head="tip_adapter_f") for train in trains]
        starts = [
            choose([Trial(mean_keys(rest), rest, held) for rest, held in split], one, config=config)
            for split, one in zip(splits, texts_of, strict=True)
        ]
        repeated = [at for at, split in zip(starts, splits, strict=True) for _ in split]
        keys = iter(self.trained_keys([rest for rest, _ in parts], own, starts=repeated))
        whole = self.trained_keys(trains, rngs, starts=starts)
        fitted = []
        for train, split, kept, texts in zip(trains, splits, whole, texts_of, strict=True):
            trials = [Trial(next(keys), rest, held_out) for rest, held_out in split]
            alpha, beta = choose(trials, texts, config=config)
            fitted.append(FittedTipAdapter(kept, one_hot(train), texts, alpha, beta))
        return fitted

    def trained_keys(
        self,
        trains: Sequence[TrainingSet],
        rngs: Sequence[np.random.Generator],
        *,
        starts: Sequence[tuple[float, float]],
    ) -> list[FloatArray]:
        """Keys of each set, ``(n, D) float32``, after training at its alpha and beta."""
        config = self.config
        at = {id(one): pair for one, pair in zip(trains, starts, strict=True)}

        def train(some: list[TrainingSet], own: list[np.random.Generator]) -> list[FloatArray]:
            return train_keys(some, own, starts=[at[id(one)] for one in some], config=config)

        return in_groups(trains, rngs, train=train)


def train_keys(
    trains: list[TrainingSet],
    rngs: list[np.random.Generator],
    *,
    starts: Sequence[tuple[float, float]],
    config: TipAdapterFConfig,
) -> list[FloatArray]:
    """Keys of sets of equal size, each trained at its alpha and beta."""
    import torch
    from torch.nn.functional import normalize

    texts = [Texts.of(train, head="tip_adapter_f") for train in trains]
    classifier = torch.from_numpy(
        np.stack([one.vectors.T / np.float32(one.temperature) for one in texts])
    )
    values = torch.from_numpy(np.stack([one_hot(train) for train in trains]))
    first = np.stack([np.ascontiguousarray(mean_keys(train).T) for train in trains])
    keys = torch.from_numpy(first).requires_grad_()

    alpha, beta = torch.tensor(starts, dtype=torch.float32).T[:, :, None, None]

    def loss(batch: Minibatch) -> "Tensor":
        x = normalize(batch.x, dim=2)
        cache = torch.exp(beta * (x @ keys - 1)) @ values
        return cross_entropy(x @ classifier + alpha * cache, batch)

    optimiser = torch.optim.AdamW(
        [keys],
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        eps=EPSILON,
        fused=True,
    )
    steps = config.epochs * steps_per_epoch(trains[0], batch_size=config.batch_size)
    batches = minibatches(trains, rngs, epochs=config.epochs, batch_size=config.batch_size)
    descend(optimiser, batches, loss, steps=steps)
    return [np.ascontiguousarray(one.T) for one in keys.detach().numpy()]


@dataclass(frozen=True, slots=True)
class FittedTipAdapter:
    """A cache and the class texts.

    Attributes:
        keys: ``(n, D) float32``.
        values: ``(n, K) float32``, one-hot labels.
        texts: of the classes.
        alpha: weight of the cache against the texts.
        beta: sharpness of the cache.
    """

    keys: FloatArray
    values: FloatArray
    texts: Texts
    alpha: float
    beta: float

    @property
    def chosen(self) -> JSON:
        """``{"alpha": ..., "beta": ...}``."""
        return {"alpha": self.alpha, "beta": self.beta}

    def predict_proba(self, features: FloatArray) -> NDArray[np.float64]:
        """``(m, K) float64``, mean over the views."""
        unit = normalise(view_rows(features))
        with single_threaded():
            cache = read(unit @ self.keys.T, self.values, beta=self.beta)
            logits = self.texts.zero_shot(unit) + self.alpha * cache
        return mean_probabilities(logits, views=features.shape[1])
