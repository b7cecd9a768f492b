"""Every cell of the results against a reference row's, with paired tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa

from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.errors import ConfigError, DataError
from medfocus_pipeline.evaluation.intervals import Interval
from medfocus_pipeline.evaluation.metrics import NAN
from medfocus_pipeline.evaluation.predictions import Predictions, read_predictions
from medfocus_pipeline.evaluation.significance import (
    holm,
    mcnemar,
    mcnemar_by_image,
    paired_bootstrap,
    paired_t,
)
from medfocus_pipeline.evaluation.statistics import Result, budget_of
from medfocus_pipeline.seeding import generator

ALPHA = 0.05
"""A corrected p-value below it counts."""

SeedTest: TypeAlias = Literal["bootstrap", "student"]
"""Of the differences over seeds: `paired_bootstrap` or `paired_t`."""


@dataclass(frozen=True, slots=True)
class Test:
    """A two-sided test.

    Attributes:
        p: in [0, 1]; nan where the test says nothing.
        holm: the same, corrected for the number of comparisons.
    """

    __test__ = False  # pytest collects classes of this name

    p: float
    holm: float = NAN


@dataclass(frozen=True, slots=True)
class Comparison:
    """One cell against the reference row's, on the same seeds and test images.

    Attributes:
        seeds: number of seeds that both rows have.
        difference: of the accuracy, this row's less the reference's, mean over seeds, [-1, 1].
        interval: of the difference, by the test over seeds; None without a spread.
        wins: pairs (image, seed) that only this row has right; seeds that repeat another's
            answers in both rows count once.
        losses: pairs that only the reference has right.
        pooled: McNemar's exact test on wins and losses, see `mcnemar`.
        images: the same with one vote an image, see `mcnemar_by_image`.
        over_seeds: of the seeds' differences, see `SeedTest`.
    """

    label: str
    reference: str
    budget: Budget
    seeds: int
    difference: float
    interval: Interval | None
    wins: int
    losses: int
    pooled: Test
    images: Test
    over_seeds: Test

    @property
    def significant(self) -> bool:
        """Whether every test that says anything has a corrected p below `ALPHA`."""
        found = [test.holm for test in (self.pooled, self.images, self.over_seeds)]
        told = [p for p in found if not np.isnan(p)]
        return bool(told) and max(told) < ALPHA

    @property
    def mark(self) -> str:
        """For the table: ``▲`` better, ``▼`` worse than the reference, empty if not significant."""
        if not self.significant:
            return ""
        return "▲" if self.difference > 0 else "▼"


def compare(
    rows: Mapping[str, Sequence[Result]],
    predictions: pa.Table,
    *,
    reference: str,
    clean: bool = False,
    over_seeds: SeedTest = "bootstrap",
    seed: int = 0,
) -> list[Comparison]:
    """Every cell against the reference row's cell of the same budget.

    Holm's family is all comparisons of one call, for each of the three tests on its own. The
    draws of one comparison do not depend on which others there are.

    Args:
        rows: label -> runs that differ in budget and seed only.
        predictions: of these runs at least, see `results.PREDICTIONS`.
        reference: label of the row that the others are held against.
        clean: only on test images that are not among the training images.
        over_seeds: which test of the differences over seeds.
        seed: of the bootstrap.

    Returns:
        In the order of the rows, then of their budgets; without the reference itself, and
        without cells of which the reference has no run of the same budget and seed.

    Raises:
        ConfigError: there is no such row.
        DataError: two runs of one row have the same budget and seed, or two rows were tested
            on different images.
        StoreError: a run has no predictions.
    """
    if reference not in rows:
        raise ConfigError(
            f"There is no row {reference!r} to compare with: choose one of {', '.join(rows)}."
        )
    runs = {label: _by_place(label, own) for label, own in rows.items()}
    base = runs.pop(reference)
    keys = {key for own in (base, *runs.values()) for key in own.values()}
    answers = read_predictions(predictions, keys)
    if clean:
        answers = {key: one.on_clean() for key, one in answers.items()}
    found = []
    for label, own in runs.items():
        for budget in dict.fromkeys(budget for budget, _ in own):
            places = [place for place in sorted(own) if place[0] == budget and place in base]
            pairs = [(answers[own[place]], answers[base[place]]) for place in places]
            if any(len(one.labels) for one, _ in pairs):
                rng = generator("bootstrap", label, reference, *map(str, budget), seed)
                found.append(_compare(label, reference, budget, pairs, over_seeds, rng))
    return corrected(found)


def _by_place(label: str, rows: Sequence[Result]) -> dict[tuple[Budget, int], str]:
    """(budget, seed) -> run key."""
    found: dict[tuple[Budget, int], str] = {}
    for row in rows:
        place = (budget_of(row), int(row["seed"]))
        if found.setdefault(place, row["run_key"]) != row["run_key"]:
            (kind, amount), seed = place
            raise DataError(
                f"The row {label!r} has two runs of {kind} {amount:g} and seed {seed}, so that "
                "it mixes two settings. Give each setting a label of its own."
            )
    return found


def _compare(
    label: str,
    reference: str,
    budget: Budget,
    pairs: Sequence[tuple[Predictions, Predictions]],
    over_seeds: SeedTest,
    rng: np.random.Generator,
) -> Comparison:
    first = pairs[0][0]
    for one in (one for pair in pairs for one in pair):
        same = np.array_equal(one.images, first.images) and np.array_equal(one.labels, first.labels)
        if not same:
            raise DataError(
                f"{label!r} and {reference!r} were tested on different images, so that they "
                "cannot be compared. Run: make probe"
            )
    right = np.array([[one.correct, other.correct] for one, other in pairs])
    gaps = right[:, 0].astype(np.int64) - right[:, 1]
    distinct = np.unique(right, axis=0)
    wins = int((distinct[:, 0] & ~distinct[:, 1]).sum())
    losses = int((distinct[:, 1] & ~distinct[:, 0]).sum())
    by_seed = gaps.sum(axis=1) / gaps.shape[1]
    student = over_seeds == "student"
    p, interval = paired_t(by_seed) if student else paired_bootstrap(by_seed, rng)
    return Comparison(
        label=label,
        reference=reference,
        budget=budget,
        seeds=len(pairs),
        difference=float(by_seed.mean()),
        interval=interval,
        wins=wins,
        losses=losses,
        pooled=Test(mcnemar(wins, losses)),
        images=Test(mcnemar_by_image(gaps.sum(axis=0))),
        over_seeds=Test(p),
    )


def corrected(found: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons as one family of Holm's, whatever families they were of before."""
    pooled = holm([one.pooled.p for one in found])
    images = holm([one.images.p for one in found])
    over_seeds = holm([one.over_seeds.p for one in found])
    return [
        replace(
            one,
            pooled=Test(one.pooled.p, pooled[n]),
            images=Test(one.images.p, images[n]),
            over_seeds=Test(one.over_seeds.p, over_seeds[n]),
        )
        for n, one in enumerate(found)
    ]
