"""A fine-tuned run: what chooses, what it learns, and that a kill changes nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medfocus_pipeline.config.tuning import Balance
from medfocus_pipeline.errors import ConfigError, DataError
from medfocus_pipeline.evaluation.runs import Outcome
from medfocus_pipeline.tuning import course
from medfocus_pipeline.tuning.batches import class_weights, epoch_batches
from medfocus_pipeline.tuning.course import Epoch, Told
from medfocus_pipeline.tuning.fitting import CHECKPOINT, duration, tune
from medfocus_pipeline.tuning.trainer import Trainer
from medfocus_pipeline.tuning.tuned_runs import check_subsets
from medfocus_pipeline.tuning.validation import balanced_loss, choosing_parts
from tests.tuning.materials import FAST, RESNET, material, one_run, table_of


class KilledError(Exception):
    """Stands for ``kill -9``: nothing after it runs."""


def killed_after(number: int) -> Told:
    """A kill at the number-th epoch that is told of, those before an earlier kill too."""
    calls = []

    def told(_: Epoch) -> None:
        calls.append(_)
        if len(calls) == number:
            raise KilledError

    return told


def learned(folder: Path, **changes: object) -> Outcome:
    given = material(folder)
    return tune(given, one_run(given.table, FAST.model_copy(update=changes)))


@pytest.mark.parametrize("trained", ["layer", "last_block", "lora", "all"])
def test_a_run_learns_what_its_pictures_show(trained: str, tmp_path: Path) -> None:
    found = learned(tmp_path, trained=trained, epochs=4)
    given = material(tmp_path)
    truth = given.table.labels[given.table.test]
    assert (found.probabilities.argmax(axis=1) == truth).mean() > 0.8
    assert found.chosen["train_accuracy"] > 0.8
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "_SAVE_EVERY", 0.0)
    monkeypatch.setattr(course, "_SAVE_SHARE", 1e9)
    changes = {"trained": "all", "augmentation": "medical", "epochs": 2}
    whole = learned(tmp_path / "whole", **changes)
    config = FAST.model_copy(update=changes)
    kills = 0
    while True:
        given = material(tmp_path / "killed")
        try:
            found = tune(given, one_run(given.table, config), told=killed_after(kills + 1))
        except KilledError:
            kills += 1
            continue
        break
    assert kills >= 2
    np.testing.assert_array_equal(found.probabilities, whole.probabilities)
    assert found.chosen == whole.chosen


def test_test_labels_move_no_choice(tmp_path: Path) -> None:
    given = material(tmp_path / "true")
    labels = given.table.labels.copy()
    labels[given.table.test] = 1 - labels[given.table.test]
    poisoned = replace(material(tmp_path / "poisoned"), table=replace(given.table, labels=labels))
    run = one_run(given.table)
    true, false = tune(given, run), tune(poisoned, run)
    assert true.chosen == false.chosen
    np.testing.assert_array_equal(true.probabilities, false.probabilities)


def test_the_test_images_are_read_once_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = material(tmp_path)
    test, read = set(given.table.test.tolist()), []
    plain = type(given.pictures).plain

    def spy(self, rows):  # type: ignore[no-untyped-def]
        read.append(bool(test & set(rows.tolist())))
        return plain(self, rows)

    monkeypatch.setattr(type(given.pictures), "plain", spy)
    tune(given, one_run(given.table))
    assert read == [False] * (len(read) - 1) + [True]


def test_smaller_pieces_give_the_same_updates(tmp_path: Path) -> None:
    at_once = [
        tune(material(tmp_path / str(size), at_once=size), one_run(table_of())).probabilities
        for size in (4, 3)
    ]
    np.testing.assert_allclose(*at_once, atol=1e-2)


def test_out_of_memory_halves_the_pieces_and_keeps_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = learned(tmp_path / "roomy").probabilities
    update = Trainer._epoch

    def full(self: Trainer, member, number):  # type: ignore[no-untyped-def]
        if self._at_once > 2:
            update(self, member, number)  # as far as it came
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return update(self, member, number)

    monkeypatch.setattr(Trainer, "_epoch", full)
    found = learned(tmp_path / "full").probabilities
    assert "Out of memory" in caplog.text
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_an_estimate_is_a_range_that_grows_with_what_is_tried(tmp_path: Path) -> None:
    made = material(tmp_path)
    run = one_run(made.table, FAST.model_copy(update={"epochs": 20, "patience": 1, "folds": 3}))
    tried = replace(run, search=run.search.model_copy(update={"trials": 99}))
    few, many = (duration(made, [one]) for one in (run, tried))
    assert few.least > 0
    assert few.most > 5 * few.least  # 20 epochs of 3 folds, where 2 of a single part may do
    assert many.least > 10 * few.least


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    given = material(tmp_path)
    tune(given, one_run(given.table))
    [path] = tmp_path.rglob(CHECKPOINT)
    other = one_run(given.table, FAST.model_copy(update={"rank": 4}))
    place = given.folder / other.key[:16] / CHECKPOINT
    place.parent.mkdir()
    place.write_bytes(path.read_bytes())
    with pytest.raises(ConfigError, match="is of a training with other settings"):
        tune(given, other)


def test_a_training_that_diverges_is_one_sentence(tmp_path: Path) -> None:
    given = material(tmp_path, name=RESNET)
    config = FAST.model_copy(update={"trained": "all", "learning_rate": 1e30, "clip": 1e30})
    with pytest.raises(DataError, match="diverged"):
        tune(given, one_run(given.table, config))


def test_one_image_of_a_class_is_one_sentence() -> None:
    table = table_of(train=1)
    with pytest.raises(DataError, match="needs two of each class"):
        check_subsets(table, [one_run(table)])


def test_small_subsets_are_cross_validated_and_large_ones_hold_a_part_out() -> None:
    rng = np.random.default_rng
    small, large = (np.repeat([0, 1], count) for count in (6, 30))
    several = choosing_parts(small, None, FAST, rng(0))
    [one] = choosing_parts(large, None, FAST, rng(0))
    held_out = np.concatenate([part.held_out for part in several])
    assert sorted(held_out) == list(range(12))
    assert len(one.held_out) == 12
    assert set(large[one.held_out]) == {0, 1}


def test_patients_stay_on_one_side() -> None:
    labels, patients = np.repeat([0, 1], 12), np.arange(24) // 3
    for part in choosing_parts(labels, patients, FAST, np.random.default_rng(0)):
        assert not set(patients[part.train]) & set(patients[part.held_out])


@pytest.mark.parametrize(
    ("balance", "counts"),
    [("none", [20, 4]), ("weights", [20, 4]), ("undersample", [4, 4])],
)
def test_balance_says_how_often_a_class_is_shown(balance: Balance, counts: list[int]) -> None:
    labels = np.repeat([0, 1], [20, 4])
    batches = epoch_batches(labels, balance=balance, batch_size=5, rng=np.random.default_rng(0))
    shown = np.concatenate(batches)
    assert np.bincount(labels[shown]).tolist() == counts
    assert len(set(shown)) == len(shown)
    assert max(map(len, batches)) == 5


def test_the_sampler_shows_each_class_alike_often() -> None:
    labels = np.repeat([0, 1], [2000, 400])
    [shown] = epoch_batches(
        labels, balance="sampler", batch_size=10_000, rng=np.random.default_rng(0)
    )
    assert abs((labels[shown] == 1).mean() - 0.5) < 0.05


def test_weights_make_each_class_weigh_alike() -> None:
    labels = np.repeat([0, 1], [20, 4])
    weights = class_weights(labels, classes=2, balance="weights")
    assert weights[0] * 20 == pytest.approx(weights[1] * 4)
    assert (weights[labels]).mean() == pytest.approx(1)


def test_a_rare_class_counts_in_what_chooses() -> None:
    labels = np.array([0] * 9 + [1])
    always = np.tile([0.99, 0.01], (10, 1))
    unsure = np.tile([0.5, 0.5], (10, 1))
    assert balanced_loss(unsure, labels) < balanced_loss(always, labels)
