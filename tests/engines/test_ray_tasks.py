"""Runs of stage two are the same on a cluster, whatever happens to its workers."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from medfocus_pipeline.config import FusionConfig, HeadConfig, LinearConfig, ProbeConfig, RayConfig
from medfocus_pipeline.engines import ray_tasks
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.evaluation.draws import draw
from medfocus_pipeline.evaluation.runs import plan_runs
from medfocus_pipeline.evaluation.sweep import sweep
from tests.evaluation.tables import make_table, side

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
]


def test_runs_are_those_of_this_process() -> None:
    table = make_table()
    config = ProbeConfig(fractions=(50, 100), seeds=2)
    draws = draw(config, train=side(table, table.train), test=side(table, table.test))
    heads: tuple[HeadConfig, ...] = (LinearConfig(), FusionConfig(width=4, epochs=2))
    with ray_tasks.ready(RayConfig(workers=2)) as tasks:
        # Both begin before the first is asked for: they share the two workers.
        begun = [
            (runs, sweep(table, runs, within=tasks))
            for runs in (plan_runs(head, table.keys, draws) for head in heads)
        ]
        for runs, budgets in begun:
            for ours, theirs in zip(budgets, sweep(table, runs), strict=True):
                assert [one.run.key for one in ours] == [one.run.key for one in theirs]
                assert [one.chosen for one in ours] == [one.chosen for one in theirs]
                for one, other in zip(ours, theirs, strict=True):
                    np.testing.assert_array_equal(one.probabilities, other.probabilities)


def die_once(shared: np.ndarray, task: tuple[Path, int]) -> int:
    marker, number = task
    if number == 2 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return int(shared[number])


def test_a_killed_worker_costs_nothing_but_its_run(tmp_path: Path) -> None:
    marker = tmp_path / "died"
    with ray_tasks.ready(RayConfig()) as tasks:
        found = list(tasks.map(die_once, np.arange(10, 16), [(marker, n) for n in range(6)]))
    assert marker.exists()
    assert found == [10, 11, 12, 13, 14, 15]


def refuse(shared: None, task: int) -> None:
    raise StoreError(f"there is no room for {task}")


def test_what_a_run_says_names_the_node() -> None:
    with (
        ray_tasks.ready(RayConfig()) as tasks,
        pytest.raises(StoreError, match=r"^Node \S+: there is no room for 7$"),
    ):
        list(tasks.map(refuse, None, [7]))


def test_no_tasks_are_no_answers() -> None:
    with ray_tasks.ready(RayConfig()) as tasks:
        assert list(tasks.map(refuse, None, [])) == []
