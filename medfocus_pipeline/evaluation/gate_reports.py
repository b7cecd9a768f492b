"""Medical or not: each method on the same features, with one report a split.

The report is that of MediCLIP's README, scikit-learn's `classification_report`: accuracy, and by
class precision, recall, F1 and support, with macro and weighted averages. A method's threshold is
chosen on the validation split; without one, on a fold that is held out of its training images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.errors import DataError
from medfocus_pipeline.evaluation.gate_methods import Method
from medfocus_pipeline.gate.balanced_threshold import balanced_threshold
from medfocus_pipeline.heads.folds import folds, smallest_class
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import FloatArray, IntArray

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SIDES = ("medical", "non-medical")
_FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class GateData:
    """What the methods are compared on.

    Attributes:
        features: ``(n, v, D) float32``, as a feature table has them.
        medical: ``(n,) bool``.
        splits: train, test and, where there is one, validation -> positions, ``(k,) int64``.
        groups: see `TrainingSet`; ``(n,) int64``, or None.
    """

    features: FloatArray
    medical: NDArray[np.bool_]
    splits: Mapping[str, IntArray]
    groups: IntArray | None = None


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Precision, recall and F1 in [0, 1], of a class or averaged over the two; images."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True, eq=False)
class SplitReport:
    """One method on one split.

    Attributes:
        accuracy: in [0, 1].
        sides: of `SIDES`, in their order.
        macro, weighted: averages over the sides, alike and by support.
        auroc, average_precision: of the scores, medical is positive; in [0, 1].
        roc: false and true positive rate, ``(2, k)``.
        precision_recall: recall and precision, ``(2, k)``.
    """

    accuracy: float
    sides: tuple[ClassScores, ClassScores]
    macro: ClassScores
    weighted: ClassScores
    auroc: float
    average_precision: float
    roc: NDArray[np.float64]
    precision_recall: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class MethodReport:
    """One method on every split.

    Attributes:
        threshold: above it an image is medical.
        chosen_on: where the threshold is from, in words.
        scores: ``(n,) float64`` of all images.
        splits: by name, in the order train, validation, test.
    """

    name: str
    learns_from: str
    threshold: float
    chosen_on: str
    scores: NDArray[np.float64]
    splits: Mapping[str, SplitReport]

    @property
    def predicted(self) -> NDArray[np.bool_]:
        """``(n,)``, which images it takes for medical ones."""
        return self.scores > self.threshold


def compare(
    data: GateData, methods: Sequence[Method], *, seed: int, on_method: Callable[[], object]
) -> list[MethodReport]:
    """Fit every method, choose its threshold, report all splits.

    Args:
        data: images of both sides.
        methods: lines of the table.
        seed: of every draw.
        on_method: called after each method.

    Raises:
        DataError: a side has no image in a split.
    """
    for name, rows in data.splits.items():
        medical = int(data.medical[rows].sum())
        if not 0 < medical < len(rows):
            raise DataError(
                f"The split {name} has {medical} medical images of {len(rows)}: both sides need "
                "some. Add images, or leave the folder out."
            )
    reports = []
    for method in methods:
        reports.append(_report(data, method, seed))
        on_method()
    return reports


def _report(data: GateData, method: Method, seed: int) -> MethodReport:
    rng = generator("gate", method.name, seed)
    fitted_on, chosen_on, where = images_to_choose_on(data, rng)
    groups = None if data.groups is None else data.groups[fitted_on]
    scorer = method.fit(data.features[fitted_on], data.medical[fitted_on], groups, rng)
    scores = scorer(data.features)
    threshold = balanced_threshold(scores[chosen_on], data.medical[chosen_on])
    told = (method.name, method.learns_from, scores)
    return reported(data, *told, threshold=threshold, chosen_on=where)


def reported(
    data: GateData,
    name: str,
    learns_from: str,
    scores: NDArray[np.float64],
    *,
    threshold: float,
    chosen_on: str,
) -> MethodReport:
    """The line of a method by its scores and threshold, wherever it was fitted.

    Args:
        scores: ``(n,)`` of all images.
        chosen_on: where the threshold is from, in words.
    """
    splits = {
        split: split_report(scores[rows], data.medical[rows], threshold)
        for split, rows in data.splits.items()
    }
    return MethodReport(name, learns_from, threshold, chosen_on, scores, splits)


def images_to_choose_on(data: GateData, rng: np.random.Generator) -> tuple[IntArray, IntArray, str]:
    """The images that a method is fitted on, those that its threshold is chosen on, in words.

    Raises:
        DataError: there is no validation split, and too few training images to hold some out.
    """
    train = data.splits[TRAIN]
    if VALIDATION in data.splits:
        return train, data.splits[VALIDATION], "the validation split"
    labels = data.medical[train].astype(np.int64)
    groups = None if data.groups is None else data.groups[train]
    count = min(_FOLDS, smallest_class(labels, groups))
    fold = next(folds(labels, n_folds=count, rng=rng, groups=groups), None) if count > 1 else None
    if fold is None or len(np.unique(labels[fold[1]])) < 2:
        raise DataError(
            "There is no validation split, and the training images are too few to hold some of "
            "both sides out. Add images, or a validation folder with use_validation: keep in the "
            "card."
        )
    rest, held_out = fold
    return train[rest], train[held_out], "a fold held out of the training images"


def split_report(
    scores: NDArray[np.float64], medical: NDArray[np.bool_], threshold: float
) -> SplitReport:
    """What scores are worth on images of both sides.

    Args:
        scores: ``(n,)``, greater is more medical.
        medical: ``(n,) bool``, the truth.
        threshold: above it an image is taken for a medical one.
    """
    from sklearn.metrics import (
        average_precision_score,
        precision_recall_curve,
        precision_recall_fscore_support,
        roc_auc_score,
        roc_curve,
    )

    predicted = scores > threshold
    both = [True, False]
    table = precision_recall_fscore_support(medical, predicted, labels=both, zero_division=0)
    sides = [
        ClassScores(float(p), float(r), float(f), int(n)) for p, r, f, n in zip(*table, strict=True)
    ]
    averages = []
    for average in ("macro", "weighted"):
        found = precision_recall_fscore_support(
            medical, predicted, labels=both, average=average, zero_division=0
        )
        share, recalled, f1 = map(float, found[:3])
        averages.append(ClassScores(share, recalled, f1, len(medical)))
    precision, recall, _ = precision_recall_curve(medical, scores)
    return SplitReport(
        accuracy=float((predicted == medical).mean()),
        sides=(sides[0], sides[1]),
        macro=averages[0],
        weighted=averages[1],
        auroc=float(roc_auc_score(medical, scores)),
        average_precision=float(average_precision_score(medical, scores)),
        roc=np.stack(roc_curve(medical, scores)[:2]),
        precision_recall=np.stack([recall, precision]),
    )


def best(reports: Sequence[MethodReport]) -> MethodReport:
    """The method that errs least where thresholds are chosen: no test image has a say.

    By balanced accuracy of the validation split, or without one of the training images, then by
    area under the ROC curve, then the first.
    """

    def rank(one: MethodReport) -> tuple[float, float]:
        report = one.splits.get(VALIDATION, one.splits[TRAIN])
        return report.macro.recall, report.auroc

    return max(reports, key=rank)
