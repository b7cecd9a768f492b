"""Where a head errs: recall by class, the confusion matrix, and how far its confidence is right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medfocus_pipeline.errors import DataError
from medfocus_pipeline.evaluation.intervals import Interval, patient_interval, wilson_interval
from medfocus_pipeline.evaluation.metrics import CALIBRATION_BINS, NAN
from medfocus_pipeline.evaluation.predictions import Predictions, of_runs
from medfocus_pipeline.evaluation.statistics import Result
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import IntArray


@dataclass(frozen=True, slots=True)
class Recall:
    """Share of one class's test images that were found, over the runs of a cell.

    Attributes:
        mean: over runs, in [0, 1]; nan if the class has no test image.
        spread: standard deviation over runs (ddof 1), 0 with one run; nan as above.
        images: of the class, in one run's test set.
    """

    mean: float
    spread: float
    images: int


@dataclass(frozen=True, slots=True)
class Reliability:
    """One bin of the reliability diagram.

    Attributes:
        low, high: the bin is (low, high], of the confidence.
        count: answers in it, of all runs.
        confidence, accuracy: their means, in [0, 1]; nan without an answer.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def accuracy_interval(
    rows: Sequence[Result], predictions: pa.Table | None, patients: Mapping[str, str]
) -> Interval:
    """What the choice of the test images leaves open of the accuracy of one cell, 95 %.

    Args:
        rows: of `results.RESULTS`, the runs of the cell.
        predictions: of these runs at least; None where no patient is known: Wilson's interval.
        patients: image id -> patient, where it is known: whole patients are resampled.
    """
    if predictions is None:
        mean = float(np.mean([row["accuracy"] for row in rows]))
        return wilson_interval(mean, rows[0]["n_test"])
    keys = [row["run_key"] for row in rows]
    own = of_runs(predictions, keys)
    right = pc.cast(pc.equal(own["class_index"], own["predicted"]), pa.float64())
    table = pa.table({"image_id": own["image_id"], "right": right})
    table = table.group_by("image_id", use_threads=False).aggregate([("right", "mean")])
    names = [patients.get(image_id, "") for image_id in table["image_id"].to_pylist()]
    shares = np.array(table["right_mean"].to_pylist())
    return patient_interval(shares, names, generator("patients", *sorted(keys)))


def confusion_matrix(answers: Sequence[Predictions], *, n_classes: int) -> IntArray:
    """How often each class was taken for each, summed over runs.

    Args:
        answers: of the runs of one cell.
        n_classes: K.

    Returns:
        ``(K, K) int64``, row the true class, column the predicted one.

    Raises:
        DataError: a class index is not below K.
    """
    total = np.zeros((n_classes, n_classes), dtype=np.int64)
    for one in answers:
        for values in (one.labels, one.predicted):
            if values.size and not 0 <= values.min() <= values.max() < n_classes:
                raise DataError(
                    f"Class indices run from {values.min()} to {values.max()}, expected 0 to "
                    f"{n_classes - 1}: the classes were changed since. Run: make probe"
                )
        np.add.at(total, (one.labels, one.predicted), 1)
    return total


def class_recalls(answers: Sequence[Predictions], *, n_classes: int) -> list[Recall]:
    """Recall of each class, mean and spread over the runs of a cell.

    Args:
        answers: of runs on one test set.
        n_classes: K.

    Raises:
        DataError: a class index is not below K.
    """
    matrices = [confusion_matrix([one], n_classes=n_classes) for one in answers]
    counts = np.array(matrices, dtype=np.int64).reshape(-1, n_classes, n_classes)
    images = counts.sum(axis=2)
    found = []
    for label in range(n_classes):
        seen = images[:, label] > 0
        hits = counts[seen, label, label] / images[seen, label]
        spread = float(hits.std(ddof=1)) if len(hits) > 1 else 0.0
        size = int(images[:, label].max(initial=0))
        found.append(Recall(float(hits.mean()), spread, size) if size else Recall(NAN, NAN, 0))
    return found


def reliability(
    answers: Sequence[Predictions], *, bins: int = CALIBRATION_BINS
) -> list[Reliability]:
    """Mean confidence and accuracy in bins of equal width, over the answers of all runs.

    The bins are those of `metrics.calibration_error` (Guo et al., ICML 2017): bin m is
    ((m - 1) / M, m / M]. Of one run, sum over the bins of count / n x |accuracy - confidence|
    is its expected calibration error; pooled over runs it is at most their mean.

    Args:
        answers: of the runs of one cell.
        bins: M.

    Returns:
        All M bins, in order.
    """
    confidence = np.concatenate([np.empty(0), *(one.confidence for one in answers)])
    correct = np.concatenate([np.empty(0, np.bool_), *(one.correct for one in answers)])
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(index, minlength=bins)
    sums = [np.bincount(index, weights=values, minlength=bins) for values in (confidence, correct)]
    return [
        Reliability(m / bins, (m + 1) / bins, int(count), *(_share(one[m], count) for one in sums))
        for m, count in enumerate(counts)
    ]


def _share(total: float, count: int) -> float:
    return float(total / count) if count else NAN
