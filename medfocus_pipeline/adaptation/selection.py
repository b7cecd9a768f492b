"""Choices without a label of the target: what a trial's risk is judged to be there.

A trial is fitted on a part of the source's images, and judged by the others and by images of the
target that have no labels.
"""

from typing import Literal

import numpy as np

from medfocus_pipeline.adaptation.distance import density_ratio
from medfocus_pipeline.adaptation.protocol import Task
from medfocus_pipeline.heads.descent import Matrix
from medfocus_pipeline.heads.folds import folds, smallest_class
from medfocus_pipeline.heads.mlp import FittedMlp
from medfocus_pipeline.types import IntArray

Criterion = Literal["source", "entropy", "importance"]

LEAST = 1e-12
"""Of a probability in a logarithm."""


def held_apart(
    task: Task, rows: IntArray, *, parts: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray] | None:
    """Rows of the source (training, held out), stratified and by whole groups.

    Args:
        rows: of the source.
        parts: one of so many is held out.

    Returns:
        None where the classes or groups are too small to hold any out.
    """
    labels, groups = task.labels[rows], task.groups[rows]
    if smallest_class(labels, groups) < parts:
        return None
    split = next(folds(labels, n_folds=parts, rng=rng, groups=groups), None)
    return None if split is None else (rows[split[0]], rows[split[1]])


def risk(
    fitted: FittedMlp,
    task: Task,
    rows: tuple[IntArray, IntArray],
    *,
    criterion: Criterion,
    rng: np.random.Generator,
) -> float:
    """What a trial is judged by; less is better.

    - ``source``: mean log-loss of the held-out images.
    - ``entropy``: mean entropy of the probabilities of the target's images (Morerio et al. 2018).
    - ``importance``: mean log-loss of the held-out images, each weighted by how much likelier
      its hidden features are in the target, with a control variate, see `controlled`
      (You et al. 2019, "Towards accurate model selection in deep unsupervised domain
      adaptation", deep embedded validation).

    Args:
        rows: of the source, (training, held out).
        rng: draws the folds of the domain classifier.
    """
    if criterion == "entropy":
        probabilities = fitted.predict_proba(task.target)
        logarithms = np.log(np.maximum(probabilities, LEAST))
        return float(-(probabilities * logarithms).sum(axis=1).mean())
    train, held_out = rows
    probabilities = fitted.predict_proba(task.source[held_out])
    true = probabilities[np.arange(len(held_out)), task.labels[held_out]]
    losses = -np.log(np.maximum(true, LEAST))
    if criterion == "source":
        return float(losses.mean())
    weights = density_ratio(
        fitted.hidden(task.source[train, 0]),
        fitted.hidden(task.target[:, 0]),
        fitted.hidden(task.source[held_out, 0]),
        rng,
    )
    return controlled(losses, weights)


def controlled(losses: Matrix, weights: Matrix) -> float:
    """Mean weighted loss with the weights' mean, which is known to be 1, as a control variate.

    mean(w l) + eta (mean(w) - 1), eta = -Cov(w l, w) / Var(w): You et al. 2019.

    Args:
        losses: ``(h,) float64``.
        weights: ``(h,) float64``.
    """
    weighted = weights * losses
    covariance = np.cov(weighted, weights)
    eta = -covariance[0, 1] / covariance[1, 1] if covariance[1, 1] > 0 else 0.0
    return float(weighted.mean() + eta * (weights.mean() - 1))
