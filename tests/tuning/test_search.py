"""Searching hyper-parameters: kills change nothing, a trial that diverges is never the answer."""

import math
from pathlib import Path

import pytest

from medfocus_pipeline.config.tuning import FinetuneConfig, SearchConfig
from medfocus_pipeline.errors import DataError, StoreError
from medfocus_pipeline.tuning.course import Epoch, Learned, Told
from medfocus_pipeline.tuning.members import diverged
from medfocus_pipeline.tuning.search import Searched, search

SPACE = SearchConfig(trials=8)


class KilledError(Exception):
    """Stands for ``kill -9``."""


class Attempts:
    """A course whose loss is known: least at a rate of 1e-3, and no number above 2e-3."""

    def __init__(self, *, kill_every: int = 0) -> None:
        self.calls, self.kill_every = 0, kill_every

    def __call__(self, config: FinetuneConfig, _: int, told: Told) -> Learned:
        loss = abs(math.log10(config.learning_rate) + 3)
        for number in range(1, 5):
            self.calls += 1
            if self.kill_every and self.calls % self.kill_every == 0:
                raise KilledError
            told(Epoch(number, 4, loss, loss + 1 / number))
        if config.learning_rate > 2e-3:
            raise diverged(4, config)
        return Learned({}, 4, loss + 1 / 4, 3, 0, {})


def searched(folder: Path, attempts: Attempts, space: SearchConfig = SPACE) -> Searched:
    while True:
        try:
            return search(folder, FinetuneConfig(), space, attempts, seed=("subset",))
        except KilledError:
            continue


def test_a_search_that_is_killed_again_and_again_tries_the_same(tmp_path: Path) -> None:
    whole = searched(tmp_path / "whole", Attempts())
    attempts = Attempts(kill_every=7)
    assert searched(tmp_path / "killed", attempts) == whole
    assert attempts.calls > 8 * 4 / 2
    assert len(whole.trials) == SPACE.trials
    again = Attempts()
    assert searched(tmp_path / "whole", again) == whole
    assert again.calls == 0


def test_a_journal_that_was_changed_is_refused(tmp_path: Path) -> None:
    searched(tmp_path, Attempts())
    journal = tmp_path / "journal.log"
    whole = journal.read_bytes()
    for place in range(0, len(whole), len(whole) // 9):
        changed = bytearray(whole)
        changed[place] ^= 1
        journal.write_bytes(changed)
        with pytest.raises(StoreError, match=r"is not what was written there\. Remove"):
            searched(tmp_path, Attempts())
    journal.write_bytes(whole)
    (tmp_path / "journal.sha256").write_bytes(b"x 1")
    with pytest.raises(StoreError, match=r"is not what was written there\. Remove"):
        searched(tmp_path, Attempts())


def test_a_trial_that_diverges_is_counted_and_never_the_answer(tmp_path: Path) -> None:
    space = SPACE.model_copy(update={"learning_rate": (5e-4, 4e-3)})
    found = searched(tmp_path, Attempts(), space)
    states = [one["state"] for one in found.trials]
    assert found.diverged == states.count("diverged") > 0
    assert states[found.number] == "complete"
    assert found.config.learning_rate <= 2e-3
    best = min((one for one in found.trials if one["state"] == "complete"), key=_loss)
    assert found.config.learning_rate == best["learning_rate"]
    assert sum(found.importance.values()) == pytest.approx(1, abs=0.01)


def _loss(row: dict[str, float]) -> float:
    return row["validation_loss"]


def test_a_search_of_which_every_trial_diverges_is_one_sentence(tmp_path: Path) -> None:
    space = SearchConfig(trials=2, learning_rate=(1e-1, 1.0))
    with pytest.raises(DataError, match=r"All 2 trials diverged .* Search lower rates"):
        searched(tmp_path, Attempts(), space)
