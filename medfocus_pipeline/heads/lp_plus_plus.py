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
alpha by half as much at every tenth iteration, has a bias, and picks the iteration on a
validation set. It never zeroes alpha's gradient, so that every tenth step of alpha is along the
sum of all gradients so far. Here the number of iterations is chosen inside the subset, by held-out
accuracy, 0 among them: then the start counts, which is close to zero-shot where the texts are good.
With one shot there is nothing to choose by, and the start is taken.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import LpPlusPlusConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.heads.common import log_losses, mean_probabilities, view_rows
from medfocus_pipeline.heads.many import in_groups
from medfocus_pipeline.heads.protocol import ManyHead, TrainingSet
from medfocus_pipeline.heads.tip_cache import trial_sets
from medfocus_pipeline.heads.zeroshot import Texts
from medfocus_pipeline.types import JSON, FloatArray
from medfocus_pipeline.vectors import normalise

START = 2.5
"""Of alpha: by how much the mean cosine divided by the temperature is multiplied."""


@dataclass(frozen=True, slots=True)
class LpPlusPlusHead(ManyHead["FittedLpPlusPlus"]):
    """The descent over all views of the images; it draws nothing."""

    config: LpPlusPlusConfig

    def fit_many(
        self, trains: Sequence[TrainingSet], rngs: Sequence[np.random.Generator]
    ) -> list["FittedLpPlusPlus"]:
        """Train on several subsets side by side."""
        with single_threaded():
            return in_groups(trains, rngs, train=self.train)

    def train(
        self, trains: list[TrainingSet], rngs: list[np.random.Generator]
    ) -> list["FittedLpPlusPlus"]:
        """Train sets of equal size."""
        texts = [Texts.of(train, head="lp_plus_plus") for train in trains]
        counts = [self.choose(train, rng) for train, rng in zip(trains, rngs, strict=True)]
        problem = Problem.of(trains, texts)
        found: dict[int, FittedLpPlusPlus] = {}
        path = iterates(problem, *start(problem, texts), momentum=self.config.momentum)
        for number, (w, alpha) in zip(range(max(counts) + 1), path, strict=False):
            for run in (run for run, count in enumerate(counts) if count == number):
                weights = w[run] + alpha[run] * texts[run].vectors.T
                found[run] = FittedLpPlusPlus(weights, alpha[run].copy(), {"iterations": number})
        return [found[run] for run in range(len(trains))]

    def choose(self, train: TrainingSet, rng: np.random.Generator) -> int:
        """The iterations with the most held-out images right, of equals the least log-loss."""
        splits = trial_sets(train, folds_at_most=self.config.folds, min_images=2, rng=rng)
        if not splits:
            return 0
        scores = np.sum([self.scores(rest, held) for rest, held in splits], axis=0)
        return int(np.lexsort((scores[:, 1], scores[:, 0]))[0])

    def scores(self, rest: TrainingSet, held_out: TrainingSet) -> NDArray[np.float64]:
        """``(iterations + 1, 2)``: held-out images that are wrong, and their log-loss."""
        texts = [Texts.of(rest, head="lp_plus_plus")]
        problem, truth = Problem.of([rest], texts), held_out.labels
        unit = normalise(view_rows(held_out.features))
        cosines = unit @ texts[0].vectors.T
        path = iterates(problem, *start(problem, texts), momentum=self.config.momentum)
        scores = np.zeros((self.config.iterations + 1, 2))
        for row, (w, alpha) in zip(scores, path, strict=False):
            logits = unit @ w[0] + alpha[0] * cosines
            found = mean_probabilities(logits, views=held_out.features.shape[1])
            row[:] = (found.argmax(axis=1) != truth).sum(), log_losses(found, truth).sum()
        return scores


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


def iterates(
    problem: Problem, w: FloatArray, alpha: FloatArray, *, momentum: float
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """W and alpha at the start and after each iteration, without end."""
    rows, cosines = problem.rows, problem.cosines
    step_w, step_alpha = steps(problem)
    velocity = np.zeros_like(w)
    images = rows @ w
    while True:
        yield w, alpha
        error = residual(problem, images + alpha * cosines)
        velocity = momentum * velocity + rows.transpose(0, 2, 1) @ error
        w = w - step_w * velocity
        images = rows @ w
        error = residual(problem, images + alpha * cosines)
        alpha = alpha - step_alpha * (error * cosines).sum(axis=1, keepdims=True)


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
        chosen: ``{"iterations": ...}``.
    """

    weights: FloatArray
    alpha: FloatArray
    chosen: JSON

    def predict_proba(self, features: FloatArray) -> NDArray[np.float64]:
        """``(m, K) float64``, mean over the views."""
        with single_threaded():
            logits = normalise(view_rows(features)) @ self.weights
        return mean_probabilities(logits, views=features.shape[1])
