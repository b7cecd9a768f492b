"""How far apart two domains are: by how well a classifier tells their images from each other."""

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import LinearConfig
from medfocus_pipeline.heads.folds import folds
from medfocus_pipeline.heads.linear import LinearHead
from medfocus_pipeline.heads.mlp import Scaling
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.types import FloatArray, IntArray

CLASSIFIER = LinearConfig(c_grid=(0.001, 0.01, 0.1, 1.0, 10.0), default_c=0.1)
"""Of features that are scaled to a variance of 1, hence the small values of C."""


def proxy_a_distance(source: FloatArray, target: FloatArray, rng: np.random.Generator) -> float:
    """The proxy A-distance 2 (1 - 2 err), in [0, 2] (Ben-David et al. 2007, section 4).

    err is the held-out error of a logistic regression that tells the domains apart, each half of
    the images classified by a fit on the other; the mean of both domains' errors, so that a
    greater domain does not count for more. A guess is 0, and what is worse than a guess too.

    Args:
        source: ``(n, d) float32``, n at least 4.
        target: ``(m, d) float32``, m at least 4.
        rng: draws the halves.
    """
    features, domains = _together(source, target)
    found = np.empty(len(domains), np.int64)
    for rest, held_out in folds(domains, n_folds=2, rng=rng):
        half = TrainingSet(features[rest], domains[rest], 2, None)
        fitted = LinearHead(CLASSIFIER).fit(half, rng)
        found[held_out] = fitted.predict_proba(features[held_out]).argmax(axis=1)
    wrong = found != domains
    error = (wrong[domains == 0].mean() + wrong[domains == 1].mean()) / 2
    return max(0.0, float(2 * (1 - 2 * error)))


def density_ratio(
    source: FloatArray, target: FloatArray, held_out: FloatArray, rng: np.random.Generator
) -> NDArray[np.float64]:
    """How much likelier images are in the target than in the source, ``(h,) float64``.

    By Bayes' rule from the probabilities of a domain classifier (Bickel et al. 2007,
    "Discriminative learning for differing training and test distributions").

    Args:
        source: ``(n, d) float32``.
        target: ``(m, d) float32``.
        held_out: ``(h, d) float32``, images of the source that are not in `source`.
        rng: draws the folds that choose C.
    """
    features, domains = _together(source, target, held_out)
    known = len(domains)
    train = TrainingSet(features[:known], domains, 2, None)
    probabilities = LinearHead(CLASSIFIER).fit(train, rng).predict_proba(features[known:])
    least = np.finfo(np.float64).tiny
    ratio: NDArray[np.float64] = probabilities[:, 1] / np.maximum(probabilities[:, 0], least)
    return ratio * len(source) / len(target)


def _together(
    source: FloatArray, target: FloatArray, *more: FloatArray
) -> "tuple[FloatArray, IntArray]":
    """Scaled features ``(n + m + .., 1, d)``, and the domains ``(n + m,)``."""
    features = np.concatenate([source, target, *more])[:, None]
    scaling = Scaling.of(features[: len(source) + len(target)])
    features = scaling.apply(features)
    return features, np.repeat(np.arange(2), [len(source), len(target)])
