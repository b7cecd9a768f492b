import errno
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from medfocus_pipeline.config import LinearConfig, ProbeConfig
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.evaluation import metrics, results
from medfocus_pipeline.evaluation.draws import draw
from medfocus_pipeline.evaluation.metrics import METRICS, Metric
from medfocus_pipeline.evaluation.result_rows import prediction_rows, result_row, subset_row
from medfocus_pipeline.evaluation.results import BudgetScore, summarise
from medfocus_pipeline.evaluation.runs import Outcome, plan_runs
from medfocus_pipeline.evaluation.scores import ALL, read_scored
from medfocus_pipeline.features import FeatureTable
from medfocus_pipeline.sealed_tables import write_table
from medfocus_pipeline.types import JSON
from tests.evaluation.tables import KEYS, make_table, side

NAMES = {"results", "predictions", "subsets"}


@pytest.fixture(scope="module")
def table() -> FeatureTable:
    return make_table()


def outcomes_of(
    table: FeatureTable, *, seeds: int = 2, fractions: tuple[float, ...] = (10.0, 100.0)
) -> list[Outcome]:
    """Made up predictions of every run."""
    config = ProbeConfig(fractions=fractions, shots=(2,), seeds=seeds)
    draws = draw(config, train=side(table, table.train), test=side(table, table.test))
    runs = plan_runs(LinearConfig(), KEYS, draws)
    rng = np.random.default_rng(0)
    shape = (len(table.test), len(table.classes))
    return [
        Outcome(run, rng.dirichlet(np.ones(shape[1]), shape[0]), {"C": 10.0}, 0.5) for run in runs
    ]


def append(folder: Path, table: FeatureTable, outcomes: Sequence[Outcome]) -> None:
    results.append(
        folder,
        results=[result_row(table, outcome) for outcome in outcomes],
        predictions=pa.concat_tables(
            [prediction_rows(table, outcome.run.key, outcome.probabilities) for outcome in outcomes]
        ),
        subsets=[subset_row(table, outcome.run) for outcome in outcomes],
    )


def run_keys(folder: Path, name: str) -> set[str]:
    return set(results.read(folder, name)["run_key"].to_pylist())


def stop_before(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    """The rename of one results file raises."""
    real: Callable[[Path, Path], Path] = Path.replace

    def stop(self: Path, target: Path) -> Path:
        if Path(target).name == f"{name}.parquet":
            raise error
        return real(self, target)

    monkeypatch.setattr(Path, "replace", stop)


def test_without_any_run_the_tables_are_empty_and_typed(tmp_path: Path) -> None:
    assert results.read(tmp_path).num_rows == 0
    assert results.read(tmp_path).schema == results.RESULTS
    assert results.read(tmp_path, "predictions").schema == results.PREDICTIONS
    assert results.read(tmp_path, "subsets").schema == results.SUBSETS


def test_what_is_appended_is_read_again_with_its_types(tmp_path: Path, table: FeatureTable) -> None:
    outcomes = outcomes_of(table)
    append(tmp_path, table, outcomes[:2])
    append(tmp_path, table, outcomes[2:])
    found = results.read(tmp_path)
    assert found.schema == results.RESULTS
    assert found.to_pylist() == [result_row(table, outcome) for outcome in outcomes]
    predictions = results.read(tmp_path, "predictions")
    assert predictions.schema == results.PREDICTIONS
    assert predictions.num_rows == len(outcomes) * len(table.test)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.parquet" for name in NAMES}


def test_a_row_holds_the_keys_of_what_it_came_from(table: FeatureTable) -> None:
    row = result_row(table, outcomes_of(table)[0])
    assert (row["n_train"], row["n_test"], row["n_test_clean"]) == (3, 18, 17)
    assert row["focus"] == "original+segmented"
    assert row["embedding_keys"].split(",") == list(KEYS.embed_keys)
    assert (row["masks_key"], row["text_key"]) == (KEYS.masks_key, KEYS.text_key)
    assert json.loads(row["chosen"]) == {"C": 10.0}
    assert set(row) == set(results.RESULTS.names)


def test_scores_are_those_of_the_predictions(tmp_path: Path, table: FeatureTable) -> None:
    outcomes = outcomes_of(table)
    append(tmp_path, table, outcomes)
    found = read_scored(tmp_path)
    assert found.column_names == [*results.RESULTS.names, *ALL]
    labels = table.labels[table.test]
    for row, outcome in zip(found.to_pylist(), outcomes, strict=True):
        right = outcome.probabilities.argmax(1) == labels
        assert row["accuracy"] == pytest.approx(right.mean())
        assert row["accuracy_clean"] == pytest.approx(right[table.clean].mean())
        auroc = roc_auc_score(labels, outcome.probabilities, multi_class="ovr")
        assert row["auroc"] == pytest.approx(auroc)


def test_a_metric_is_one_function_and_one_entry_and_counts_for_old_results(
    tmp_path: Path, table: FeatureTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(tmp_path, table, outcomes_of(table))
    errors = Metric(lambda answers: float((~answers.correct).sum()), "errors")
    monkeypatch.setattr(metrics, "METRICS", {**METRICS, "errors": errors})
    for row in read_scored(tmp_path, ["accuracy", "errors", "errors_clean"]).to_pylist():
        assert row["errors"] == pytest.approx((1 - row["accuracy"]) * row["n_test"])
        assert row["errors_clean"] <= row["errors"]


def test_results_that_were_written_with_scores_and_without_names_are_read_on(
    tmp_path: Path, table: FeatureTable
) -> None:
    outcomes = outcomes_of(table)
    append(tmp_path, table, outcomes[:2])
    scored, predictions = read_scored(tmp_path), results.read(tmp_path, "predictions")
    write_table(tmp_path / "results.parquet", scored, owner="results")
    unnamed = predictions.drop_columns(["class_name", "predicted_name"])
    write_table(tmp_path / "predictions.parquet", unnamed, owner="predictions")
    assert read_scored(tmp_path).equals(scored)
    append(tmp_path, table, outcomes[2:])
    assert read_scored(tmp_path).num_rows == len(outcomes)


def test_a_run_has_a_fraction_or_a_number_of_shots(table: FeatureTable) -> None:
    rows = [result_row(table, outcome) for outcome in outcomes_of(table, seeds=1)]
    assert [(row["fraction"], row["shots"]) for row in rows] == [(10, None), (100, None), (None, 2)]


def test_a_score_that_is_not_defined_is_null(tmp_path: Path, table: FeatureTable) -> None:
    same = np.zeros_like(table.labels)
    odd = replace(table, labels=same, clean=np.zeros_like(table.clean))
    append(tmp_path, odd, outcomes_of(table)[:1])
    [row] = read_scored(tmp_path).to_pylist()
    assert row["auroc"] is None
    assert row["accuracy_clean"] is None
    assert row["n_test_clean"] == 0


def test_predictions_are_one_row_for_each_run_and_test_image(
    tmp_path: Path, table: FeatureTable
) -> None:
    outcomes = outcomes_of(table)
    append(tmp_path, table, outcomes)
    rows = results.read(tmp_path, "predictions").to_pylist()
    for outcome in outcomes:
        own = [row for row in rows if row["run_key"] == outcome.run.key]
        assert [row["image_id"] for row in own] == [table.image_ids[n] for n in table.test]
        assert [row["path"] for row in own] == [table.paths[n] for n in table.test]
        assert [row["class_index"] for row in own] == table.labels[table.test].tolist()
        names = [table.classes[label] for label in table.labels[table.test]]
        assert [row["class_name"] for row in own] == names
        assert [table.classes.index(row["predicted_name"]) for row in own] == [
            row["predicted"] for row in own
        ]
        assert [row["clean"] for row in own] == table.clean.tolist()
        probabilities = np.array([row["probabilities"] for row in own])
        np.testing.assert_allclose(probabilities, outcome.probabilities, atol=1e-7)
        assert [row["predicted"] for row in own] == outcome.probabilities.argmax(1).tolist()


def test_every_subset_stands_once_by_its_ids(tmp_path: Path, table: FeatureTable) -> None:
    outcomes = outcomes_of(table, seeds=3)  # 100 % is one subset, whatever the seed
    append(tmp_path, table, outcomes)
    append(tmp_path, table, outcomes[:2])
    subsets = results.read(tmp_path, "subsets").to_pylist()
    by_key = {row["subset_key"]: row["image_ids"] for row in subsets}
    assert len(by_key) == len(subsets)
    assert set(by_key) == set(results.read(tmp_path)["subset_key"].to_pylist())
    for outcome in outcomes:
        own = {table.image_ids[table.train[position]] for position in outcome.run.subset}
        assert set(by_key[outcome.run.subset_key]) == own


def test_a_run_of_a_key_that_is_there_replaces_it(tmp_path: Path, table: FeatureTable) -> None:
    outcomes = outcomes_of(table)
    append(tmp_path, table, outcomes)
    append(tmp_path, table, [replace(outcomes[1], seconds=99.0)])
    rows = {row["run_key"]: row["seconds"] for row in results.read(tmp_path).to_pylist()}
    assert rows == {outcome.run.key: 0.5 for outcome in outcomes} | {outcomes[1].run.key: 99.0}
    assert results.read(tmp_path).num_rows == len(outcomes)
    count = results.read(tmp_path, "predictions").num_rows
    assert count == len(outcomes) * len(table.test)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_crash_leaves_the_old_results_and_its_leftovers_vanish(
    tmp_path: Path, table: FeatureTable, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, lost, later = outcomes_of(table)[:3]
    append(tmp_path, table, [first])
    old = (tmp_path / "results.parquet").read_bytes()
    with monkeypatch.context() as patch:
        stop_before(patch, name, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            append(tmp_path, table, [lost])
    assert (tmp_path / "results.parquet").read_bytes() == old
    assert run_keys(tmp_path, "results") == {first.run.key}
    assert {path.suffix for path in tmp_path.iterdir()} == {".parquet"}
    append(tmp_path, table, [later])
    assert run_keys(tmp_path, "results") == {first.run.key, later.run.key}
    assert run_keys(tmp_path, "predictions") == {first.run.key, later.run.key}


def test_the_results_are_written_last(
    tmp_path: Path, table: FeatureTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    [outcome, *_] = outcomes_of(table)
    stop_before(monkeypatch, "results", OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(StoreError, match="the disk is full: free some space"):
        append(tmp_path, table, [outcome])
    assert run_keys(tmp_path, "predictions") == {outcome.run.key}
    assert results.read(tmp_path, "subsets").num_rows == 1
    assert not (tmp_path / "results.parquet").exists()


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_damaged_file_is_refused_with_the_fix(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(StoreError, match=r"has no seal.*cache verify --repair, .*then: make probe"):
        results.read(tmp_path, name)


def test_a_file_of_another_version_is_refused_with_the_fix(
    tmp_path: Path, table: FeatureTable
) -> None:
    append(tmp_path, table, outcomes_of(table)[:1])
    subsets = results.read(tmp_path, "subsets")
    write_table(tmp_path / "results.parquet", subsets, owner="results")
    with pytest.raises(StoreError, match=r"of another version\. .*then: make probe"):
        results.read(tmp_path)


def test_pandas_and_duckdb_read_the_three_files(tmp_path: Path, table: FeatureTable) -> None:
    import duckdb
    import pandas as pd

    append(tmp_path, table, outcomes_of(table))
    for name in NAMES:
        path = tmp_path / f"{name}.parquet"
        expected = results.read(tmp_path, name)
        frame = pd.read_parquet(path)
        assert list(frame.columns) == expected.column_names
        assert len(frame) == expected.num_rows
        assert duckdb.read_parquet(str(path)).fetchall() == [
            tuple(row.values()) for row in expected.to_pylist()
        ]
    joined = duckdb.sql(f"""
        select r.run_key, avg((p.predicted = p.class_index)::int)
        from '{tmp_path}/results.parquet' r join '{tmp_path}/predictions.parquet' p using (run_key)
        group by r.run_key""").fetchall()
    scores = read_scored(tmp_path).to_pydict()
    expected = dict(zip(scores["run_key"], scores["accuracy"], strict=True))
    assert dict(joined) == pytest.approx(expected)


def runs_of(*rows: tuple[float | None, int | None, float, float | None]) -> list[JSON]:
    """Results with these fractions, shots, accuracies and clean accuracies."""
    names = ("fraction", "shots", "accuracy", "accuracy_clean")
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_a_cell_is_the_mean_and_the_sample_deviation_over_seeds() -> None:
    cells = summarise(
        runs_of(
            (10.0, None, 0.5, 0.4),
            (10.0, None, 0.7, 0.8),
            (None, 4, 0.9, 0.9),
            (10.0, None, 0.9, 0.6),
        )
    )
    assert list(cells) == [("fraction", 10.0), ("shots", 4)]
    cell = cells["fraction", 10.0]
    assert (cell.mean, cell.clean) == (pytest.approx(0.7), pytest.approx(0.6))
    assert (cell.spread, cell.clean_spread) == (pytest.approx(0.2), pytest.approx(0.2))
    assert cell.runs == 3


def test_one_seed_has_no_spread() -> None:
    assert summarise(runs_of((5.0, None, 0.5, 0.25))) == {
        ("fraction", 5.0): BudgetScore(0.5, 0.0, 0.25, 0.0, 1)
    }


def test_without_clean_images_the_clean_mean_is_not_a_number() -> None:
    cell = summarise(runs_of((5.0, None, 0.5, None), (5.0, None, 0.7, None)))["fraction", 5.0]
    assert cell.mean == pytest.approx(0.6)
    assert np.isnan([cell.clean, cell.clean_spread]).all()


def test_no_runs_make_no_cells() -> None:
    assert summarise([]) == {}
