"""What runs said about their test images, read from the stored predictions."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from medfocus_pipeline.columns import id_array
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.types import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What one run said about its n test images, in an order that runs of one test set share.

    Attributes:
        images: ``(n,) int64``, a number for each image id, the same in all answers that were
            read together; byte-equal files have the same one.
        labels: ``(n,) int64``, the true class index.
        predicted: ``(n,) int64``.
        probabilities: ``(n, K) float64`` in [0, 1], as stored in float32; rows sum to 1.
        clean: ``(n,) bool``, images that are not among the training images.
    """

    images: IntArray
    labels: IntArray
    predicted: IntArray
    probabilities: NDArray[np.float64]
    clean: NDArray[np.bool_]

    def on_clean(self) -> "Predictions":
        """Those about clean images alone; there may be none."""
        kept = (getattr(self, field.name)[self.clean] for field in fields(self))
        return Predictions(*kept)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """``(n,) float64`` in [0, 1], the greatest probability."""
        greatest: NDArray[np.float64] = self.probabilities.max(axis=1)
        return greatest

    @property
    def correct(self) -> NDArray[np.bool_]:
        """``(n,) bool``."""
        right: NDArray[np.bool_] = self.labels == self.predicted
        return right


def of_runs(table: pa.Table, run_keys: Collection[str]) -> pa.Table:
    """The rows of some runs, of results or predictions, in their order."""
    return table.filter(pc.is_in(table["run_key"], id_array(sorted(set(run_keys)))))


def read_predictions(predictions: pa.Table, run_keys: Collection[str]) -> dict[str, Predictions]:
    """The answers of some runs, each sorted by image and label, so that equal test sets align.

    Args:
        predictions: rows of `results.PREDICTIONS`, also those of other runs.

    Returns:
        Run key -> answers.

    Raises:
        StoreError: a run has no predictions, or not one probability a class.
    """
    wanted = sorted(set(run_keys))
    table = of_runs(predictions, wanted)
    lost = set(wanted) - set(table["run_key"].unique().to_pylist())
    if lost:
        raise StoreError(
            f"{len(lost)} of {len(wanted)} runs have a result and no predictions, the first is "
            f"{min(lost)[:8]}. Remove the data set's results folder, then run: make probe"
        )
    images, labels = _codes(table["image_id"]), _integers(table["class_index"])
    predicted = _integers(table["predicted"])
    clean = np.array(table["clean"].to_pylist(), np.bool_)
    values, starts, lengths = _lists(table["probabilities"])
    runs = _integers(pc.index_in(table["run_key"], id_array(wanted)))
    order = np.lexsort((labels, images, runs))
    edges = np.searchsorted(runs[order], np.arange(len(wanted) + 1))
    found = {}
    for number, key in enumerate(wanted):
        own = order[edges[number] : edges[number + 1]]
        n_classes = lengths[own[0]]
        if (lengths[own] != n_classes).any():
            raise StoreError(
                f"The predictions of the run {key[:8]} have rows of different lengths. Run: "
                "medfocus cache verify --repair, then: make probe"
            )
        probabilities = values[starts[own][:, None] + np.arange(n_classes)]
        found[key] = Predictions(
            images[own], labels[own], predicted[own], probabilities, clean[own]
        )
    return found


def _integers(column: pa.ChunkedArray) -> IntArray:
    # Not to_numpy(), which imports pandas where it is installed: half a second.
    chunks: list[NDArray[Any]] = [np.from_dlpack(chunk) for chunk in column.chunks]
    return np.concatenate([np.empty(0, np.int64), *chunks])


def _codes(column: pa.ChunkedArray) -> IntArray:
    """A number for each text, in the order of their first occurrence."""
    chunks: list[NDArray[Any]] = [
        np.from_dlpack(chunk.indices) for chunk in column.dictionary_encode().chunks
    ]
    return np.concatenate([np.empty(0, np.int64), *chunks])


def _lists(column: pa.ChunkedArray) -> tuple[NDArray[np.float64], IntArray, IntArray]:
    """All values of lists one after another, and where each list begins and how long it is."""
    parts: list[NDArray[Any]] = [
        np.from_dlpack(chunk.flatten()) for chunk in column.chunks if len(chunk)
    ]
    values = np.concatenate([np.empty(0), *parts])
    lengths = _integers(pc.list_value_length(column))
    return values, np.cumsum(lengths) - lengths, lengths
