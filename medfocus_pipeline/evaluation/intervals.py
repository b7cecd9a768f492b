"""Intervals of means, shares and areas."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.evaluation.metrics import NAN

LEVEL = 0.95
"""Of every interval."""

Scores: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, both in the unit of the score."""

    low: float
    high: float


def t_interval(values: Scores) -> Interval | None:
    """Student's interval of the mean over seeds: mean ± t(level, n - 1) s / sqrt(n).

    It covers what the seeds vary (the subset, the head's first weights), not the choice of
    the test images, and may reach beyond [0, 1].

    Args:
        values: ``(n,) float64``, one score a seed.

    Returns:
        None where seeds say nothing: fewer than two, all the same (on 100 % of the images a
        linear head has one fit for all seeds), or an undefined score among them.
    """
    if len(values) < 2 or np.isnan(values).any() or np.ptp(values) == 0:
        return None
    n, mean = len(values), float(values.mean())
    half = t_within(LEVEL, n - 1) * float(values.std(ddof=1)) / n**0.5
    return Interval(mean - half, mean + half)


@cache
def t_within(level: float, freedom: int) -> float:
    """The t with P(|T| <= t) = level, T of Student's distribution with so many degrees of freedom.

    By halving on the finite sums for the angle atan(t / sqrt(freedom)) of Abramowitz and Stegun,
    "Handbook of Mathematical Functions", 1964, 26.7.3 and 26.7.4. Not by scipy.special, whose
    import takes longer than all that a table computes.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(64):
        angle = (low + high) / 2
        low, high = (angle, high) if _inside(angle, freedom) < level else (low, angle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _inside(angle: float, freedom: int) -> float:
    odd, cosine = freedom % 2, math.cos(angle)
    term, total = cosine if odd else 1.0, 0.0
    for k in range(2 + odd, freedom + 1, 2):
        total += term
        term *= (k - 1) / k * cosine**2
    share = math.sin(angle) * total
    return 2 / math.pi * (angle + share) if odd else share


def wilson_interval(share: float, count: int) -> Interval:
    """Wilson's score interval of a share of independent images: what the test set leaves open.

    With z the normal quantile, ((p + z²/2n) ± z sqrt(p (1 - p)/n + z²/4n²)) / (1 + z²/n)
    (Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22,
    1927; recommended by Brown, Cai and DasGupta, Statistical Science 16, 2001). It lies in
    [0, 1] and has a width also at 0 and 1. Images of one patient are not independent: then it
    is too narrow.

    Args:
        share: p in [0, 1]; a mean over seeds is one share of the same images.
        count: n >= 1 images.

    Returns:
        nan to nan if the share is nan or there is no image.
    """
    if np.isnan(share) or count < 1:
        return Interval(NAN, NAN)
    square = NormalDist().inv_cdf((1 + LEVEL) / 2) ** 2
    middle = share + square / (2 * count)
    half = (square * (share * (1 - share) / count + square / (4 * count**2))) ** 0.5
    whole = 1 + square / count
    return Interval(max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole))


def patient_interval(shares: Scores, patients: Sequence[str], rng: np.random.Generator) -> Interval:
    """Interval of the accuracy on test images of which some are of one patient.

    Percentile bootstrap with whole patients resampled (Efron and Tibshirani, "An Introduction to
    the Bootstrap", 1993, section 8.6; for clustered images Obuchowski 1998, as above). Where that
    has no width, as with no mistake at all, Wilson's interval of as many images as patients.

    Args:
        shares: ``(n,) float64`` in [0, 1], of each image how many of the runs have it right.
        patients: of each image; images without one are each for themselves.
        rng: draws the patients.
    """
    names = [name or f"\0{n}" for n, name in enumerate(patients)]
    _, codes = np.unique(names, return_inverse=True)
    right, sizes = np.bincount(codes, shares), np.bincount(codes)
    count = len(sizes)
    drawn = [
        (times @ right) / (times @ sizes)
        for times in (rng.multinomial(count, np.full(count, 1 / count), 500) for _ in range(4))
    ]
    low, high = np.quantile(np.concatenate(drawn), ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    if low == high:
        return wilson_interval(float(shares.mean()), count)
    return Interval(float(low), float(high))


def mean_interval(share: float, counts: Sequence[int]) -> Interval:
    """Interval of a mean of shares of independent groups, such as the balanced accuracy.

    Each group has Wilson's limits about the mean, and the mean's are put together from them by
    the square-and-add rule: share ∓ sqrt(Σ (share - limit_k)²) / K (Newcombe, "Estimating the
    difference between differences", Statistics in Medicine 20, 2001; Zou and Donner, ibid. 27,
    2008). The groups' own shares are not asked for: at one mean they change the width little.

    Args:
        share: in [0, 1]; a mean over seeds is one share of the same images.
        counts: images of each of the K groups.

    Returns:
        nan to nan if the share is nan or a group has no image.
    """
    limits = [wilson_interval(share, count) for count in counts]
    below, above = (
        float(np.sqrt(sum((share - limit) ** 2 for limit in ends))) / len(counts)
        for ends in ([one.low for one in limits], [one.high for one in limits])
    )
    return Interval(share - below, share + above)


def auroc_interval(area: float, negative: int, positive: int) -> Interval:
    """Interval of an area under the ROC curve: what the test set leaves open.

    The limits are the areas θ that are z standard errors away, each with its own standard error
    (Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney
    statistic. Part 2", Statistics in Medicine 25, 2006, method 5): with m and n images of the two
    classes and N = (m + n) / 2 - 1, after Hanley and McNeil (1982),
    θ (1 - θ) (1 + N (1 - θ) / (2 - θ) + N θ / (1 + θ)) / mn is its square. It has a width at 1 too.

    Args:
        area: in [0, 1].
        negative, positive: images of the two classes.

    Returns:
        nan to nan if the area is nan.
    """
    if np.isnan(area):
        return Interval(NAN, NAN)
    z, middle = NormalDist().inv_cdf((1 + LEVEL) / 2), (negative + positive) / 2 - 1
    theta = np.linspace(0, 1, 10_001)
    ratio = 1 + middle * (1 - theta) / (2 - theta) + middle * theta / (1 + theta)
    error = np.sqrt(theta * (1 - theta) * ratio / (negative * positive))
    within = theta[np.abs(theta - area) <= z * error + 1e-4]
    return Interval(float(within.min()), float(within.max()))
