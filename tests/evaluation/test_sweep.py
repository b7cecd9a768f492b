from collections.abc import Callable
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfocus_pipeline.columns import id_array
from medfocus_pipeline.config import FusionConfig, HeadConfig, LinearConfig, ProbeConfig
from medfocus_pipeline.evaluation import runs as runs_module
from medfocus_pipeline.evaluation import sweep as sweep_module
from medfocus_pipeline.evaluation.draws import Keys, Labelled, draw
from medfocus_pipeline.evaluation.processes import processes
from medfocus_pipeline.evaluation.runs import Run, plan_runs
from medfocus_pipeline.evaluation.sweep import fit, predict, sweep, training_set
from medfocus_pipeline.features import FeatureKeys, FeatureTable
from medfocus_pipeline.heads.linear import LinearHead
from medfocus_pipeline.heads.protocol import Head, TrainingSet
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.types import JSON
from tests.evaluation.tables import KEYS, make_table, side

LINEAR = LinearConfig()
FUSION = FusionConfig(width=4, epochs=2)
CONFIG = ProbeConfig(fractions=(10, 50, 100), shots=(1, 2), seeds=2)


@pytest.fixture(scope="module")
def table() -> FeatureTable:
    return make_table()


def plan(
    table: FeatureTable,
    head: HeadConfig = LINEAR,
    config: ProbeConfig = CONFIG,
    *,
    keys: FeatureKeys = KEYS,
    train: Labelled | None = None,
    test: Labelled | None = None,
) -> list[Run]:
    train = train or side(table, table.train)
    draws = draw(config, train=train, test=test or side(table, table.test))
    return plan_runs(head, keys, draws)


def keys_of(runs: list[Run]) -> set[str]:
    return {run.key for run in runs}


def relabelled(images: Labelled, position: int) -> Labelled:
    labels = images.labels.copy()
    labels[position] = (labels[position] + 1) % 3
    return replace(images, labels=labels)


def renamed(images: Labelled, position: int) -> Labelled:
    ids = images.image_ids.to_pylist()
    ids[position] = "another image"
    return replace(images, image_ids=id_array(ids))


def shuffled(images: Labelled) -> Labelled:
    order = np.random.default_rng(1).permutation(len(images.labels))
    return images.part(order)


def test_there_is_a_run_for_each_budget_and_seed_and_each_has_a_key(table: FeatureTable) -> None:
    runs = plan(table)
    budgets = [("fraction", 10), ("fraction", 50), ("fraction", 100), ("shots", 1), ("shots", 2)]
    assert [(run.budget, run.seed) for run in runs] == list(product(budgets, (0, 1)))
    assert len(keys_of(runs)) == len(runs)


ALL_KEYS_CHANGE: dict[str, Callable[[FeatureTable], list[Run]]] = {
    "head": lambda table: plan(table, FUSION),
    "head option": lambda table: plan(table, LinearConfig(folds=4)),
    "embedding key": lambda table: plan(table, keys=replace(KEYS, embed_keys=("a", "c"))),
    "order of the joined parts": lambda table: plan(
        table, keys=replace(KEYS, embed_keys=KEYS.embed_keys[::-1])
    ),
    "test id": lambda table: plan(table, test=renamed(side(table, table.test), 3)),
    "test label": lambda table: plan(table, test=relabelled(side(table, table.test), 3)),
    "test size": lambda table: plan(table, test=side(table, table.test[1:])),
}


@pytest.mark.parametrize("change", ALL_KEYS_CHANGE.values(), ids=ALL_KEYS_CHANGE)
def test_what_changes_the_numbers_changes_every_key(
    table: FeatureTable, change: Callable[[FeatureTable], list[Run]]
) -> None:
    assert not keys_of(plan(table)) & keys_of(change(table))


@pytest.mark.parametrize("change", [renamed, relabelled])
def test_a_key_changes_with_the_ids_and_labels_of_its_subset(
    table: FeatureTable, change: Callable[[Labelled, int], Labelled]
) -> None:
    config = ProbeConfig(fractions=(100,), seeds=2)
    changed = change(side(table, table.train), 5)
    assert not keys_of(plan(table, config=config)) & keys_of(
        plan(table, config=config, train=changed)
    )


NO_KEY_CHANGES: dict[str, Callable[[FeatureTable], list[Run]]] = {
    "again": plan,
    "names of the parts": lambda table: plan(
        table,
        keys=replace(KEYS, segmenter="other", roi="other", encoder="other", masks_key="other"),
    ),
    "texts, which linear does not read": lambda table: plan(
        table, keys=replace(KEYS, text_key="other")
    ),
    "order of the test images": lambda table: plan(table, test=shuffled(side(table, table.test))),
    "order of the training images": lambda table: plan(
        table, train=shuffled(side(table, table.train))
    ),
}


@pytest.mark.parametrize("change", NO_KEY_CHANGES.values(), ids=NO_KEY_CHANGES)
def test_what_changes_no_number_changes_no_key(
    table: FeatureTable, change: Callable[[FeatureTable], list[Run]]
) -> None:
    assert keys_of(change(table)) == keys_of(plan(table))


def test_another_fraction_seed_or_number_of_shots_adds_runs_and_changes_none(
    table: FeatureTable,
) -> None:
    more = ProbeConfig(fractions=(5, 10, 50, 100), shots=(1, 2, 4), seeds=3)
    assert keys_of(plan(table)) < keys_of(plan(table, config=more))


def test_the_class_texts_are_in_the_keys_of_fusion(table: FeatureTable) -> None:
    other = replace(KEYS, text_key="other")
    assert not keys_of(plan(table, FUSION)) & keys_of(plan(table, FUSION, keys=other))


def test_subsets_are_nested_and_drawn_anew_for_each_seed(table: FeatureTable) -> None:
    config = ProbeConfig(fractions=(10, 20, 50, 100), shots=(1, 2, 4), seeds=3)
    runs = plan(table, config=config)
    for seed in range(3):
        for kind in ("fraction", "shots"):
            own = [set(run.subset) for run in runs if (run.budget[0], run.seed) == (kind, seed)]
            assert all(smaller < larger for smaller, larger in pairwise(own))
    firsts = {run.subset_key for run in runs if run.budget == ("fraction", 10)}
    assert len(firsts) == 3


@pytest.mark.parametrize(("head", "fits"), [(LINEAR, 1), (FUSION, 4)], ids=["linear", "fusion"])
def test_seeds_share_one_fit_on_all_images_only_where_the_head_draws_nothing(
    table: FeatureTable, head: HeadConfig, fits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[TrainingSet] = []

    class Uniform:
        @property
        def chosen(self) -> JSON:
            return {"C": 1.0}

        def fit(self, train: TrainingSet, rng: np.random.Generator) -> "Uniform":
            asked.append(train)
            return self

        def predict_proba(self, features: np.ndarray) -> np.ndarray:
            return np.full((len(features), 3), 1 / 3)

    def make_uniform(_: HeadConfig) -> Head:
        return Uniform()

    for module in (runs_module, sweep_module):
        monkeypatch.setattr(module, "make_head", make_uniform)
    runs = plan(table, head, ProbeConfig(fractions=(100,), seeds=4))
    assert len({run.fit_key for run in runs}) == fits
    [outcomes] = sweep(table, runs)
    assert len(asked) == fits
    assert [outcome.run for outcome in outcomes] == runs
    assert len({outcome.seconds for outcome in outcomes}) == fits


def test_outcomes_come_budget_by_budget_the_largest_first(table: FeatureTable) -> None:
    runs = plan(table, LinearConfig(c_grid=(1.0,)))
    found = list(sweep(table, runs[1:]))
    expected = sorted(runs[1:], key=lambda run: -len(run.subset))
    assert [outcome.run for batch in found for outcome in batch] == expected
    assert all(len({outcome.run.budget for outcome in batch}) == 1 for batch in found)


def test_the_linear_head_in_a_sweep_is_the_linear_head_called_by_hand(
    table: FeatureTable,
) -> None:
    for run in plan(table)[2:4]:
        rows = sorted(table.train[run.subset], key=lambda row: table.image_ids[row])
        train = TrainingSet(table.features[rows], table.labels[rows], 3, table.text)
        fitted = LinearHead(LINEAR).fit(train, generator("linear", run.subset_key))
        [[outcome]] = sweep(table, [run])
        np.testing.assert_array_equal(
            outcome.probabilities, fitted.predict_proba(table.features[table.test])
        )
        assert outcome.chosen == fitted.chosen
        assert outcome.seconds > 0


def test_probabilities_do_not_depend_on_the_number_of_workers(table: FeatureTable) -> None:
    config = ProbeConfig(fractions=(50,), seeds=3)
    runs = plan(table, LINEAR, config) + plan(table, FUSION, config)
    with processes(2) as two_of_them:
        [alone], [beside] = sweep(table, runs), sweep(table, runs, within=two_of_them)
        [again] = sweep(table, runs[:1], within=two_of_them)
    assert again[0].probabilities.tobytes() == alone[0].probabilities.tobytes()
    assert [outcome.run.key for outcome in beside] == [run.key for run in runs]
    for one, two in zip(alone, beside, strict=True):
        assert one.probabilities.tobytes() == two.probabilities.tobytes()
        assert one.chosen == two.chosen


def test_processes_begin_before_the_first_outcome_is_asked_for(table: FeatureTable) -> None:
    config = ProbeConfig(fractions=(50,), seeds=1)
    with processes(2) as two_of_them:
        first, second = (
            sweep(table, plan(table, head, config), within=two_of_them) for head in (LINEAR, FUSION)
        )
        [[last]] = second
        [[before]] = first
    assert (before.run.head, last.run.head) == (LINEAR, FUSION)


def test_what_waits_never_begins_when_the_processes_are_given_up(table: FeatureTable) -> None:
    runs = plan(table, LINEAR, ProbeConfig(fractions=(50,), seeds=40))
    with pytest.raises(KeyboardInterrupt), processes(2) as two_of_them:
        outcomes = sweep(table, runs, within=two_of_them)
        raise KeyboardInterrupt
    with pytest.raises((CancelledError, BrokenProcessPool)):
        list(outcomes)


@pytest.mark.parametrize("head", [LINEAR, FUSION], ids=["linear", "fusion"])
def test_a_fit_sees_no_test_image(table: FeatureTable, head: HeadConfig) -> None:
    poisoned = table.features.copy()
    poisoned[table.test] = np.nan
    run = plan(table, head)[2]
    [blind] = fit(replace(table, features=poisoned), [run])
    np.testing.assert_array_equal(predict(blind, table), predict(fit(table, [run])[0], table))


@pytest.mark.parametrize("head", [LINEAR, FUSION], ids=["linear", "fusion"])
def test_a_fit_does_not_depend_on_the_order_of_the_files(
    table: FeatureTable, head: HeadConfig
) -> None:
    """Equal keys mean equal results, also after files were renamed."""
    order = np.random.default_rng(2).permutation(len(table.train))
    rows = np.concatenate([order, table.test])
    moved = replace(
        table,
        image_ids=tuple(table.image_ids[row] for row in rows),
        labels=table.labels[rows],
        features=table.features[rows],
    )
    for run, other in zip(plan(table, head)[:4], plan(moved, head)[:4], strict=True):
        assert run.key == other.key
        np.testing.assert_array_equal(
            predict(fit(table, [run])[0], table), predict(fit(moved, [other])[0], moved)
        )


def test_groups_reach_the_head_and_patients_are_part_of_the_keys() -> None:
    images = replace(make_table(), groups=np.arange(54) // 2)
    train, test = side(images, images.train), side(images, images.test)
    config = ProbeConfig(seeds=1, fractions=(100,))
    [run] = plan_runs(LinearConfig(), images.keys, draw(config, train=train, test=test))
    given = training_set(images, run)
    same = (given.features[:, None] == images.features).all(axis=(2, 3))
    assert given.groups is not None
    np.testing.assert_array_equal(given.groups, same.argmax(axis=1) // 2)
    known = replace(train, patients=id_array(["anna"] * len(train.image_ids)))
    [other] = plan_runs(LinearConfig(), images.keys, draw(config, train=known, test=test))
    assert other.fit_key != run.fit_key


@given(
    st.lists(
        st.tuples(
            st.one_of(st.text(max_size=3), st.integers(0, 5).map(lambda n: f"{n:064x}")),
            st.integers(0, 11),
            st.text(max_size=3),
        ),
        min_size=1,
    ),
    st.data(),
)
def test_keys_are_the_digests_of_the_sorted_images(
    rows: list[tuple[str, int, str]], data: st.DataObject
) -> None:
    """Results that were kept are known by them: another way to them must lead to the same."""
    ids, labels, patients = zip(*rows, strict=True)
    keys = Keys(Labelled(id_array(ids), np.array(labels), id_array(patients)))
    assert keys.of_all == digest(sorted(rows))
    some = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1))))
    assert keys.of(np.array(some, np.int64)) == digest(sorted(rows[n] for n in some))


def test_few_test_images_at_a_time_are_read_and_answered_as_all_at_once(
    table: FeatureTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plan(table)[-1]
    [fitted] = fit(table, [run])
    expected, asked = fitted.predict_proba(table.features[table.test]), []

    class Watched:
        chosen = fitted.chosen

        def predict_proba(self, features: np.ndarray) -> np.ndarray:
            asked.append(len(features))
            return fitted.predict_proba(features)

    monkeypatch.setattr(sweep_module, "_PREDICTED_AT_ONCE", 4)
    np.testing.assert_allclose(predict(Watched(), table), expected, atol=1e-12)
    assert max(asked) == 4
    assert sum(asked) == len(table.test) > 4
