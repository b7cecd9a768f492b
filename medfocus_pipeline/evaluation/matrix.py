"""The matrix of a study: each method from each source to each target, with its uncertainty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from medfocus_pipeline.adaptation import METHODS
from medfocus_pipeline.evaluation.comparison import Comparison, compare, corrected
from medfocus_pipeline.evaluation.intervals import (
    Interval,
    auroc_interval,
    mean_interval,
    wilson_interval,
)
from medfocus_pipeline.evaluation.metrics import NAN
from medfocus_pipeline.evaluation.predictions import read_predictions
from medfocus_pipeline.evaluation.scores import scored
from medfocus_pipeline.evaluation.statistics import Result
from medfocus_pipeline.evaluation.transfer import REFERENCE, Transfer
from medfocus_pipeline.types import IntArray

Score: TypeAlias = Literal["balanced_accuracy", "auroc", "accuracy"]

SCORES: tuple[Score, ...] = ("balanced_accuracy", "auroc", "accuracy")
"""The first two lead: class shares differ between hospitals."""

Pair: TypeAlias = tuple[str, str]
"""Source, as it stands in the table, and target."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One score of one method on one pair, in [0, 1].

    Attributes:
        mean, spread: over seeds; the standard deviation has ddof 1, and is 0 with one seed.
        interval: 95 %, what the number of the target's test images leaves open.
        difference: of the mean to source-only's on the pair; nan of the oracle's own pair.
    """

    mean: float
    spread: float
    interval: Interval
    difference: float


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """One method on one pair.

    Attributes:
        measures: by score.
        mark: ``▲`` or ``▼`` where its accuracy differs from source-only's after Holm.
        distance: the proxy A-distance that it leaves between source and target; nan if it was
            not measured.
    """

    measures: Mapping[Score, Measure]
    mark: str
    distance: float


@dataclass(frozen=True, slots=True)
class Matrix:
    """What a study came to.

    Attributes:
        methods: rows.
        pairs: columns.
        cells: by method and pair; the oracle's, which has no source, stands under every source.
        tested: target -> its test images.
        seeds: number of them.
    """

    title: str
    methods: tuple[str, ...]
    pairs: tuple[Pair, ...]
    cells: Mapping[tuple[str, Pair], MatrixCell]
    tested: Mapping[str, int]
    seeds: int
    notes: tuple[str, ...] = ()


def build_matrix(
    title: str,
    transfers: Sequence[Transfer],
    *,
    runs: pa.Table,
    predictions: pa.Table,
    notes: Sequence[str] = (),
) -> Matrix:
    """Sum up the runs of a study.

    Args:
        transfers: what was planned.
        runs: of `results.ADAPTATION`.
        predictions: of `results.PREDICTIONS`.
        notes: what else is to be said.
    """
    known = {row["run_key"]: row for row in scored(runs, predictions, SCORES).to_pylist()}
    rows: dict[tuple[str, Pair], Sequence[Result]] = {
        (one.method.name, (one.label, one.target)): [known[key] for key in one.keys]
        for one in transfers
    }
    pairs = list(dict.fromkeys(pair for name, pair in rows if not _reads_labels(name)))
    pairs = pairs or [pair for _, pair in rows]
    methods = tuple(dict.fromkeys(name for name, _ in rows))
    placed = {
        (name, pair): rows.get((name, pair)) or rows[name, (pair[1], pair[1])]
        for name in methods
        for pair in pairs
    }
    marks = {(one.label, pair): one.mark for pair, one in _compared(rows, pairs, predictions)}
    labels = _test_labels(rows, predictions)
    cells = {
        (name, pair): _cell(
            own, placed.get((REFERENCE, pair)), labels[pair[1]], marks.get((name, pair), "")
        )
        for (name, pair), own in placed.items()
    }
    tested = {target: len(own) for target, own in labels.items()}
    return Matrix(
        *(title, methods, tuple(pairs), cells, tested, len(transfers[0].keys)), tuple(notes)
    )


def _reads_labels(name: str) -> bool:
    return METHODS[name].reads_target_labels


def _compared(
    rows: Mapping[tuple[str, Pair], Sequence[Result]], pairs: Sequence[Pair], predictions: pa.Table
) -> list[tuple[Pair, Comparison]]:
    """Every method that reads no label of the target against source-only, one family of Holm's."""
    found: list[tuple[Pair, Comparison]] = []
    for pair in pairs:
        own = {name: rows[name, place] for name, place in rows if place == pair}
        own = {name: one for name, one in own.items() if not _reads_labels(name)}
        if REFERENCE in own and len(own) > 1:
            # A family of some sixty comparisons of five seeds, see `paired_t`.
            tested = compare(own, predictions, reference=REFERENCE, over_seeds="student")
            found += [(pair, one) for one in tested]
    return list(zip([pair for pair, _ in found], corrected([one for _, one in found]), strict=True))


def _test_labels(
    rows: Mapping[tuple[str, Pair], Sequence[Result]], predictions: pa.Table
) -> dict[str, IntArray]:
    """Target -> the classes of its test images."""
    keys = {pair[1]: own[0]["run_key"] for (_, pair), own in rows.items()}
    answers = read_predictions(predictions, set(keys.values()))
    return {target: answers[key].labels for target, key in keys.items()}


def _cell(
    rows: Sequence[Result], reference: Sequence[Result] | None, labels: IntArray, mark: str
) -> MatrixCell:
    distance = rows[0]["distance"]
    return MatrixCell(
        {score: _measure(rows, reference, score, labels) for score in SCORES},
        mark,
        NAN if distance is None else float(distance),
    )


def _measure(
    rows: Sequence[Result], reference: Sequence[Result] | None, score: Score, labels: IntArray
) -> Measure:
    values = _values(rows, score)
    mean = float(values.mean())
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    base = float(_values(reference, score).mean()) if reference else NAN
    return Measure(mean, spread, _interval(score, mean, labels), mean - base)


def _values(rows: Sequence[Result], score: Score) -> "np.ndarray[Any, Any]":
    return np.array([NAN if row[score] is None else row[score] for row in rows])


def _interval(score: Score, mean: float, labels: IntArray) -> Interval:
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    if score == "accuracy":
        return wilson_interval(mean, len(labels))
    if score == "balanced_accuracy":
        return mean_interval(mean, counts.tolist())
    return auroc_interval(mean, *counts.tolist()) if len(counts) == 2 else Interval(NAN, NAN)
