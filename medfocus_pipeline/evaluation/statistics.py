"""Scores of runs by budget, and the area under their learning curve."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.evaluation.intervals import Scores
from medfocus_pipeline.evaluation.metrics import NAN

Result: TypeAlias = Mapping[str, Any]
"""One row of `results.RESULTS`, with scores where they are read."""


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
    rows: Sequence[Result], *, kind: Literal["fraction", "shots"] = "fraction"
) -> Scores:
    """`curve_area` of each seed's accuracy, for its mean and `t_interval`.

    Args:
        rows: runs that differ in budget and seed only.

    Returns:
        ``(seeds,) float64``, in the order of the seeds; a seed that lacks a budget of another
        is left out, and a curve of one point is nan.
    """
    curves: dict[int, dict[float, float]] = {}
    for row in rows:
        if row[kind] is not None and row["accuracy"] is not None:
            curves.setdefault(int(row["seed"]), {})[float(row[kind])] = float(row["accuracy"])
    most = max((len(curve) for curve in curves.values()), default=0)
    whole = [curve for _, curve in sorted(curves.items()) if len(curve) == most]
    return np.array([curve_area(list(curve), list(curve.values())) for curve in whole])


def budget_of(row: Result) -> Budget:
    """The budget of a row of `results.RESULTS`."""
    fraction = row["fraction"]
    return ("shots", row["shots"]) if fraction is None else ("fraction", fraction)
