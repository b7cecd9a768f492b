"""LP++ (Huang et al. 2024, "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP").

    logits_k = f (w_k + alpha_k t_k)                 t the class texts
    L = mean cross-entropy over all rows             no temperature, no penalty

Block majorise-minimise over all rows at once: the blocks w and alpha take turns, each at the
step 1 / (its Lipschitz constant), which the data give,

    w:      lambda_max(F^T F) / (2 N)                F: (N, D), N rows
    alpha:  max_k sum_i (f_i t_k)^2 / (2 N)

One class at a time, 1/4 would do in the place of 1/2; here all classes move at once, for which
1/2 is the bound (Böhning 1992, "Multinomial Logistic Regression Algorithm"). w_k starts as the
mean feature of class k, and every alpha as the mean over the classes of 250 times the mean of
f_i t_k over the class's rows. 250 is the number of the authors' implementation, where the logit
scale is CLIP's 100; for other encoders it is 2.5 times theirs. w has a momentum of 0.9, as there.

What differs from that implementation: it starts w at class sums, steps w by twice as much and
alpha by an eighth at every tenth iteration, has a bias, and picks the iteration on a validation
set; here the last one counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import LpPlusPlusConfig
from medfocus_pipeline.features import normalise
from medfocus_pipeline.heads.linear import check
from medfocus_pipeline.heads.many import in_groups
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.texts import Texts
from medfocus_pipeline.heads.threads import single_threaded
from medfocus_pipeline.heads.views import mean_probabilities, view_rows
from medfocus_pipeline.types import JSON, FloatArray

START = 2.5
"""Of alpha: by how much the mean cosine divided by the temperature is multiplied."""


@dataclass(frozen=True, slots=True)
class LpPlusPlusHead:
    """The descent over all views of the images; it draws nothing."""

    config: LpPlusPlusConfig

    def fit(self, train: TrainingSet, rng: np.random.Generator) -> "FittedLpPlusPlus":
        """Train on one subset."""
        return self.fit_many([train], [rng])[0]

    def fit_many(
        self, trains: Sequence[TrainingSet], rngs: Sequence[np.random.Generator]
    ) -> list["FittedLpPlusPlus"]:
        """Train on several subsets side by side."""
        for train in trains:
            check(train)
            Texts.of(train, head="lp_plus_plus")
        with single_threaded():
            return in_groups(
                trains,
                rngs,
                alike=lambda one: len(one.labels),
                train=lambda some, _: self.train(some),
            )

    def train(self, trains: list[TrainingSet]) -> list["FittedLpPlusPlus"]:
        """Train sets of equal size."""
        texts = [Texts.of(train, head="lp_plus_plus") for train in trains]
        problem = Problem.of(trains, texts)
        w, alpha = descend(problem, *start(problem, texts), config=self.config)
        return [
            FittedLpPlusPlus(w[run] + alpha[run] * one.vectors.T, alpha[run])
            for run, one in enumerate(texts)
        ]


@dataclass(frozen=True, slots=True)
class Problem:
    """B training sets of equal size.

    Attributes:
        rows: ``(B, N, D) float32``, f, L2-normalised: all views of all images.
        cosines: ``(B, N, K) float32``, f_i t_k.
        truth: ``(B, N, K) float32``, one-hot labels.
    """

    rows: FloatArray
    cosines: FloatArray
    truth: FloatArray

    @classmethod
    def of(cls, trains: Sequence[TrainingSet], texts: Sequence[Texts]) -> "Problem":
        """The rows of the sets."""
        views = trains[0].features.shape[1]
        rows = np.stack([normalise(view_rows(train.features)) for train in trains])
        cosines = rows @ np.stack([one.vectors.T for one in texts])
        labels = np.stack([np.repeat(train.labels, views) for train in trains])
        return cls(rows, cosines, np.eye(trains[0].n_classes, dtype=np.float32)[labels])


def start(problem: Problem, texts: Sequence[Texts]) -> tuple[FloatArray, FloatArray]:
    """The first w ``(B, D, K)`` and alpha ``(B, 1, K)``; an absent class has w = 0."""
    counts = problem.truth.sum(axis=1, keepdims=True)
    shares = problem.truth / np.maximum(counts, 1)
    w: FloatArray = problem.rows.transpose(0, 2, 1) @ shares
    own = (problem.cosines * shares).sum(axis=(1, 2)) / (counts > 0).sum(axis=(1, 2))
    scale = START / np.array([one.temperature for one in texts], np.float32)
    alpha = np.broadcast_to((scale * own)[:, None, None], counts.shape).astype(np.float32)
    return w, alpha


def steps(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """1 / Lipschitz constant of the blocks w and alpha, ``(B, 1, 1) float32`` each."""
    rows = problem.rows
    turned = rows.transpose(0, 2, 1)
    gram = turned @ rows if rows.shape[1] > rows.shape[2] else rows @ turned
    greatest = np.linalg.eigvalsh(gram)[:, -1]
    squares = np.square(problem.cosines).sum(axis=1).max(axis=1)
    tiny = np.finfo(np.float32).tiny
    w = 2 * rows.shape[1] / np.maximum(greatest, tiny)
    alpha = 2 * rows.shape[1] / np.maximum(squares, tiny)
    return w[:, None, None].astype(np.float32), alpha[:, None, None].astype(np.float32)


def descend(
    problem: Problem, w: FloatArray, alpha: FloatArray, *, config: LpPlusPlusConfig
) -> tuple[FloatArray, FloatArray]:
    """The last w and alpha."""
    rows, cosines = problem.rows, problem.cosines
    step_w, step_alpha = steps(problem)
    velocity = np.zeros_like(w)
    images = rows @ w
    for _ in range(config.iterations):
        error = residual(problem, images + alpha * cosines)
        velocity = config.momentum * velocity + rows.transpose(0, 2, 1) @ error
        w = w - step_w * velocity
        images = rows @ w
        error = residual(problem, images + alpha * cosines)
        alpha = alpha - step_alpha * (error * cosines).sum(axis=1, keepdims=True)
    return w, alpha


def residual(problem: Problem, logits: FloatArray) -> FloatArray:
    """Gradient of L by the logits, ``(B, N, K)``."""
    powers = np.exp(logits - logits.max(axis=2, keepdims=True))
    probabilities = powers / powers.sum(axis=2, keepdims=True)
    error: FloatArray = (probabilities - problem.truth) / problem.rows.shape[1]
    return error


@dataclass(frozen=True, slots=True)
class FittedLpPlusPlus:
    """A linear classifier of L2-normalised features.

    Attributes:
        weights: ``(D, K) float32``, w_k + alpha_k t_k.
        alpha: ``(1, K) float32``.
        chosen: empty.
    """

    weights: FloatArray
    alpha: FloatArray
    chosen: JSON = field(default_factory=dict)

    def predict_proba(self, features: FloatArray) -> NDArray[np.float64]:
        """``(m, K) float64``, mean over the views."""
        with single_threaded():
            logits = normalise(view_rows(features)) @ self.weights
        return mean_probabilities(logits, views=features.shape[1])
