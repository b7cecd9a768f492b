"""Tests of paired answers and paired scores, and the correction for many of them."""

from collections.abc import Sequence

import numpy as np

from medfocus_pipeline.evaluation.intervals import LEVEL, Interval, Scores, t_interval
from medfocus_pipeline.evaluation.metrics import NAN
from medfocus_pipeline.types import IntArray

RESAMPLES = 10_000


def mcnemar(wins: int, losses: int) -> float:
    """McNemar's exact conditional test: are wins and losses equally likely?

    Two-sided p = 2 P(X <= min(wins, losses)), X ~ Binomial(wins + losses, 1/2), at most 1.
    It never rejects too often (Fagerland, Lydersen and Laake, "The McNemar test for binary
    matched-pairs data", BMC Med. Res. Methodol. 13:91, 2013), and being exact needs no continuity
    correction.

    The pairs must be independent. Pooled over seeds they are not: a test image comes back with
    every seed, and what is hard once is hard again, so that the effective number is smaller and
    p too small. Read it with `mcnemar_by_image`, which does not have that fault.

    Returns:
        p in (0, 1]; 1 without wins and losses.
    """
    chances = _coin_tosses(wins + losses)
    return min(1.0, 2 * float(chances[: min(wins, losses) + 1].sum()))


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


def paired_t(differences: Scores) -> tuple[float, Interval | None]:
    """Two-sided p and interval of a mean difference over seeds, by Student's paired test.

    For few seeds and many comparisons: of five seeds, one bootstrap resample in 625 is of one
    seed only, so that `paired_bootstrap` never finds a p below .0016, which no correction for
    more than 31 comparisons leaves below .05. Student's has no such floor, but takes the
    differences to be normal.

    Args:
        differences: ``(n,) float64`` in [-1, 1], one for each seed.

    Returns:
        nan and None with one seed or equal differences.
    """
    n = len(differences)
    if n < 2 or np.ptp(differences) == 0:
        return NAN, None
    from scipy.special import stdtr

    t = abs(float(differences.mean())) / (float(differences.std(ddof=1)) / n**0.5)
    return 2 * float(stdtr(n - 1, -t)), t_interval(differences)


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
