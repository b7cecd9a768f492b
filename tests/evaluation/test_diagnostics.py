import numpy as np
import pyarrow as pa
import pytest

from medfocus_pipeline.errors import DataError, StoreError
from medfocus_pipeline.evaluation.diagnostics import (
    Recall,
    class_recalls,
    confusion_matrix,
    reliability,
)
from medfocus_pipeline.evaluation.metrics import calibration_error
from medfocus_pipeline.evaluation.predictions import read_predictions
from tests.evaluation.predictions import predictions


def test_answers_are_those_of_the_run_sorted_alike() -> None:
    first = predictions("one", [1, 0, 2], [1, 1, 2], ids=["c", "a", "b"], n_classes=3)
    second = predictions("two", [0, 1, 1], [2, 1, 1], ids=["b", "c", "a"], n_classes=3)
    table = pa.concat_tables([first, predictions("no", [0], [0]), second])
    found = read_predictions(table, ["two", "one"])
    assert set(found) == {"one", "two"}
    assert np.array_equal(found["one"].images, found["two"].images)
    assert np.array_equal(found["one"].labels, found["two"].labels)
    assert found["one"].correct.sum() == 2
    assert found["two"].correct.sum() == 2
    np.testing.assert_allclose(found["one"].confidence, 0.8, atol=1e-6)


def test_classes_may_differ_in_number_between_runs() -> None:
    table = pa.concat_tables(
        [
            predictions("two", [1], [1], confidence=[0.9]),
            predictions("five", [4, 0], [4, 0], confidence=[0.3, 0.6], n_classes=5),
        ]
    )
    found = read_predictions(table, ["two", "five"])
    np.testing.assert_allclose(found["two"].confidence, [0.9], atol=1e-6)
    np.testing.assert_allclose(found["five"].confidence, [0.3, 0.6], atol=1e-6)


def test_a_run_without_predictions_is_refused() -> None:
    with pytest.raises(StoreError, match=r"1 of 1 runs .* no predictions, .* run: make probe"):
        read_predictions(predictions("one", [0], [0]), ["lost"])


def test_a_run_without_a_clean_image_has_empty_answers() -> None:
    [answers] = read_predictions(predictions("one", [0], [0], clean=[False]), ["one"]).values()
    found = answers.on_clean()
    assert len(found.labels) == 0
    assert all(one.count == 0 for one in reliability([found]))


def test_the_confusion_matrix_counts_over_seeds() -> None:
    table = pa.concat_tables(
        [
            predictions("one", [0, 1, 1, 0], [0, 0, 1, 1]),
            predictions("two", [0, 0, 1, 0], [0, 0, 1, 1]),
        ]
    )
    answers = [*read_predictions(table, ["one", "two"]).values()]
    assert confusion_matrix(answers, n_classes=2).tolist() == [[3, 1], [2, 2]]


def test_recall_is_of_each_class_with_its_spread_over_seeds() -> None:
    table = pa.concat_tables(
        [
            predictions("one", [0, 1, 1, 0], [0, 0, 1, 1]),
            predictions("two", [0, 0, 1, 0], [0, 0, 1, 1]),
        ]
    )
    answers = [*read_predictions(table, ["one", "two"]).values()]
    first, second, third = class_recalls(answers, n_classes=3)
    assert (first.mean, first.spread, first.images) == (0.75, pytest.approx(0.125**0.5), 2)
    assert second == Recall(0.5, 0.0, 2)
    assert np.isnan([third.mean, third.spread]).all()
    assert third.images == 0
    assert class_recalls(answers[:1], n_classes=2)[0] == Recall(0.5, 0.0, 2)


def test_a_class_that_is_not_known_any_more_is_refused() -> None:
    answers = [*read_predictions(predictions("one", [1], [0]), ["one"]).values()]
    with pytest.raises(DataError, match="Class indices run from 1 to 1, expected 0 to 0"):
        confusion_matrix(answers, n_classes=1)


def test_the_bins_are_those_of_the_calibration_error() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 500).astype(np.float32)
    labels = rng.integers(0, 3, 500)
    table = predictions("one", probabilities.argmax(1).tolist(), labels.tolist(), n_classes=3)
    column = pa.array(list(probabilities), pa.list_(pa.float32()))
    place = table.schema.get_field_index("probabilities")
    table = table.set_column(place, table.schema.field(place), column)
    [answers] = read_predictions(table, ["one"]).values()
    bins = reliability([answers])
    assert len(bins) == 15
    assert sum(one.count for one in bins) == 500
    error = sum(one.count / 500 * abs(one.accuracy - one.confidence) for one in bins if one.count)
    assert error == pytest.approx(calibration_error(answers))
    for one in bins:
        assert one.count == 0 or one.low < one.confidence <= one.high


def test_an_empty_bin_has_no_means() -> None:
    answers = [*read_predictions(predictions("one", [0], [0], confidence=[0.95]), ["one"]).values()]
    first, last = reliability(answers, bins=2)
    assert (first.count, last.count) == (0, 1)
    assert np.isnan([first.confidence, first.accuracy]).all()
    assert last.accuracy == 1
