"""Statistics of results: intervals over seeds, paired tests and their correction, curve areas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.datasets.splits import Budget
from medfocus_pipeline.evaluation.metrics import NAN
from medfocus_pipeline.types import IntArray

LEVEL = 0.95
"""Of every interval."""

RESAMPLES = 10_000

Result: TypeAlias = Mapping[str, Any]
"""One row of `results.RESULTS`, with scores where they are read."""

Scores: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, both in the unit of the score."""

    low: float
    high: float


def t_interval(values: Scores, *, level: float = LEVEL) -> Interval | None:
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
    from scipy.special import stdtrit

    n, mean = len(values), float(values.mean())
    half = float(stdtrit(n - 1, (1 + level) / 2)) * float(values.std(ddof=1)) / n**0.5
    return Interval(mean - half, mean + half)


def wilson_interval(share: float, count: int, *, level: float = LEVEL) -> Interval:
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
    from scipy.special import ndtri

    if np.isnan(share) or count < 1:
        return Interval(NAN, NAN)
    square = float(ndtri((1 + level) / 2)) ** 2
    middle = share + square / (2 * count)
    half = (square * (share * (1 - share) / count + square / (4 * count**2))) ** 0.5
    whole = 1 + square / count
    return Interval(max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole))


def patient_interval(
    shares: Scores, patients: Sequence[str], rng: np.random.Generator, *, level: float = LEVEL
) -> Interval:
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
    low, high = np.quantile(np.concatenate(drawn), ((1 - level) / 2, (1 + level) / 2))
    if low == high:
        return wilson_interval(float(shares.mean()), count, level=level)
    return Interval(float(low), float(high))


def mean_interval(share: float, counts: Sequence[int], *, level: float = LEVEL) -> Interval:
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
    limits = [wilson_interval(share, count, level=level) for count in counts]
    below, above = (
        float(np.sqrt(sum((share - limit) ** 2 for limit in ends))) / len(counts)
        for ends in ([one.low for one in limits], [one.high for one in limits])
    )
    return Interval(share - below, share + above)


def auroc_interval(area: float, negative: int, positive: int, *, level: float = LEVEL) -> Interval:
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
    from scipy.special import ndtri

    if np.isnan(area):
        return Interval(NAN, NAN)
    z, middle = float(ndtri((1 + level) / 2)), (negative + positive) / 2 - 1
    theta = np.linspace(0, 1, 10_001)
    ratio = 1 + middle * (1 - theta) / (2 - theta) + middle * theta / (1 + theta)
    error = np.sqrt(theta * (1 - theta) * ratio / (negative * positive))
    within = theta[np.abs(theta - area) <= z * error + 1e-4]
    return Interval(float(within.min()), float(within.max()))


def scores_by_budget(rows: Sequence[Result], *, column: str = "accuracy") -> dict[Budget, Scores]:
    """One score of each run, by budget and in the order of the seeds; nan where undefined.

    Args:
        rows: runs that differ in budget and seed only.
        column: a score, e.g. ``accuracy_clean`` or ``auroc``, see `evaluation.scores`.
    """
    groups: dict[Budget, list[float]] = {}
    for row in sorted(rows, key=lambda row: int(row["seed"])):
        value = row[column]
        groups.setdefault(budget_of(row), []).append(NAN if value is None else value)
    return {budget: np.array(values) for budget, values in groups.items()}


def mcnemar(wins: int, losses: int, *, mid_p: bool = False) -> float:
    """McNemar's exact conditional test: are wins and losses equally likely?

    Two-sided p = 2 P(X <= min(wins, losses)), X ~ Binomial(wins + losses, 1/2), at most 1.
    The exact form never rejects too often; `mid_p` takes half of the observed point's
    probability off each side, with more power and hardly more errors (Fagerland, Lydersen and
    Laake, "The McNemar test for binary matched-pairs data", BMC Med. Res. Methodol. 13:91,
    2013). No continuity correction: neither form approximates.

    The pairs must be independent. Pooled over seeds they are not: a test image comes back with
    every seed, and what is hard once is hard again, so that the effective number is smaller and
    p too small. Read it with `mcnemar_by_image`, which does not have that fault.

    Returns:
        p in (0, 1]; 1 without wins and losses.
    """
    n, fewer = wins + losses, min(wins, losses)
    chances = _coin_tosses(n)
    point = float(chances[fewer])
    exact = min(1.0, 2 * float(chances[: fewer + 1].sum()))
    if not mid_p or n == 0:
        return exact
    return 1 - point / 2 if wins == losses else exact - point


def mcnemar_by_image(differences: IntArray) -> float:
    """McNemar's exact test where an image has several answers, one vote for each image.

    The sign of each image's difference is flipped with probability 1/2: under the hypothesis
    that the two rows are equally good on it, either sign is as likely (Fisher's randomisation
    test for pairs; image = cluster, as in Obuchowski, "On the comparison of correlated
    proportions for clustered data", Statistics in Medicine 17, 1998). p = P(|sum of ±d_i| >=
    |sum of d_i|), exact by convolution; with one seed it is `mcnemar`.

    Args:
        differences: ``(n,) int64``, wins less losses of each image over all seeds.

    Returns:
        p in (0, 1]; 1 if all differences are 0.
    """
    chances = np.ones(1)
    for size, count in zip(*np.unique(np.abs(differences), return_counts=True), strict=True):
        if size:
            # Sums of `count` times ±size, from the least to the greatest, one place a unit.
            steps = np.zeros(2 * int(size) * int(count) + 1)
            steps[:: 2 * int(size)] = _coin_tosses(int(count))
            chances = np.convolve(chances, steps)
    middle = len(chances) // 2
    observed = abs(int(differences.sum()))
    if observed == 0:
        return 1.0
    return min(1.0, 2 * float(chances[middle + observed :].sum()))


def _coin_tosses(n: int) -> Scores:
    """Binomial(n, 1/2): ``(n + 1,) float64``, the chance of 0 … n heads."""
    # Not scipy.stats, whose import takes longer than all that is computed here.
    from scipy.special import gammaln

    heads = np.arange(n + 1)
    logarithms = gammaln(n + 1) - gammaln(heads + 1) - gammaln(n - heads + 1)
    chances: Scores = np.exp(logarithms - n * np.log(2))
    return chances


def paired_bootstrap(
    differences: Scores, rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> tuple[float, Interval | None]:
    """Two-sided p and interval of a mean difference, seeds drawn with replacement.

    Symmetric and studentised (Hall, "On symmetric bootstrap confidence intervals", JRSS B 50,
    1988): |t*| = |mean* - mean| / se* of each resample against |t| = |mean| / se. The plain
    percentile form is far too sure of few seeds: with n differences of one sign, which happens
    by chance with probability 2^(1 - n), it never reaches 0. A resample of one seed only has
    se* = 0 and counts as an infinite |t*|, so that two or three seeds prove nothing here.

    Args:
        differences: ``(n,) float64`` in [-1, 1], one for each seed.
        rng: draws the resamples; equal states give equal bytes.

    Returns:
        p = (1 + number of |t*| >= |t|) / (1 + resamples), and mean ± the `LEVEL` quantile of
        |t*| x se, within [-1, 1]; nan and None with one seed or equal differences.
    """
    n = len(differences)
    if n < 2 or np.ptp(differences) == 0:
        return NAN, None
    mean, se = float(differences.mean()), float(differences.std(ddof=1)) / n**0.5
    drawn = differences[rng.integers(0, n, (resamples, n))]
    spread = np.where(np.ptp(drawn, axis=1) == 0, 0, drawn.std(axis=1, ddof=1)) / n**0.5
    off = np.abs(drawn.mean(axis=1) - mean)
    statistics = np.divide(off, spread, out=np.full(resamples, np.inf), where=spread > 0)
    p = (1 + int((statistics >= abs(mean) / se).sum())) / (1 + resamples)
    half = float(np.quantile(statistics, LEVEL, method="higher")) * se
    return p, Interval(max(-1.0, mean - half), min(1.0, mean + half))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: the chance of one false finding in the whole family stays below alpha.

    Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6,
    1979: the k-th smallest of m is multiplied by m - k + 1, and none is below one before it.

    Args:
        p_values: of the family, in any order; nan is no member.

    Returns:
        Corrected values in [0, 1], in the same order; nan stays.
    """
    corrected = [NAN] * len(p_values)
    members = [n for n, p in enumerate(p_values) if not np.isnan(p)]
    least = 0.0
    for rank, n in enumerate(sorted(members, key=lambda n: p_values[n])):
        least = max(least, min(1.0, (len(members) - rank) * p_values[n]))
        corrected[n] = least
    return corrected


def curve_area(amounts: Sequence[float], scores: Sequence[float]) -> float:
    """Area under a learning curve over the logarithm of the amount of data, in [0, 1].

    With amounts f_1 < … < f_m and scores a_1 … a_m, by trapezoids:
    sum of (a_k + a_(k-1)) / 2 x ln(f_k / f_(k-1)), divided by ln(f_m / f_1). A constant score
    is its own area (as the active learning challenge's, Guyon et al. 2011, but not rescaled to
    chance).

    Args:
        amounts: fractions in percent, or shots, > 0, each once, in any order.
        scores: in [0, 1].

    Returns:
        nan with fewer than two amounts.
    """
    if len(amounts) < 2:
        return NAN
    order = np.argsort(amounts)
    x, y = np.log(np.array(amounts)[order]), np.array(scores)[order]
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def curve_areas(
    rows: Sequence[Result],
    *,
    kind: Literal["fraction", "shots"] = "fraction",
    column: str = "accuracy",
) -> Scores:
    """`curve_area` of each seed, for its mean and `t_interval`.

    Args:
        rows: runs that differ in budget and seed only.

    Returns:
        ``(seeds,) float64``, in the order of the seeds; a seed that lacks a budget of another
        is left out, and a curve of one point is nan.
    """
    curves: dict[int, dict[float, float]] = {}
    for row in rows:
        if row[kind] is not None and row[column] is not None:
            curves.setdefault(int(row["seed"]), {})[float(row[kind])] = float(row[column])
    most = max((len(curve) for curve in curves.values()), default=0)
    whole = [curve for _, curve in sorted(curves.items()) if len(curve) == most]
    return np.array([curve_area(list(curve), list(curve.values())) for curve in whole])


def budget_of(row: Result) -> Budget:
    """The budget of a row of `results.RESULTS`."""
    fraction = row["fraction"]
    return ("shots", row["shots"]) if fraction is None else ("fraction", fraction)
