import numpy as np
import pytest

from medfocus_pipeline.adaptation.distance import density_ratio, proxy_a_distance
from medfocus_pipeline.adaptation.selection import controlled, held_apart, risk
from medfocus_pipeline.heads.mlp import FittedMlp, Scaling
from medfocus_pipeline.types import FloatArray
from tests.adaptation.tasks import shifted


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(count: int, *, seed: int, move: float = 0.0, dim: int = 3) -> FloatArray:
    return (rng(seed).normal(size=(count, dim)) + move * np.eye(dim)[0]).astype(np.float32)


def test_the_distance_is_that_of_the_best_boundary_between_two_normals() -> None:
    """Means 2 apart: the best boundary errs at Phi(-1) = .1587, a distance of 1.365."""
    found = proxy_a_distance(normal(4000, seed=0), normal(4000, seed=1, move=2.0), rng())
    assert found == pytest.approx(2 * (1 - 2 * 0.158655), abs=0.05)


def test_equal_domains_are_at_no_distance_and_others_at_most_2() -> None:
    same = proxy_a_distance(normal(600, seed=0), normal(200, seed=1), rng())
    far = proxy_a_distance(normal(60, seed=0), normal(20, seed=1, move=50), rng())
    assert 0 <= same < 0.2
    assert far == 2


def test_the_density_ratio_is_that_of_the_two_normals() -> None:
    held_out = normal(200, seed=2)
    found = density_ratio(normal(4000, seed=0), normal(2000, seed=1, move=1.0), held_out, rng())
    # log N(x; 1) - log N(x; 0) = x - 1/2
    np.testing.assert_allclose(np.log(found), held_out[:, 0] - 0.5, atol=0.35)


def test_the_control_variate_is_right_where_the_mean_alone_is_not() -> None:
    """Where losses are the same, the weights' noise goes altogether."""
    weights = rng().exponential(size=20)
    assert weights.mean() != pytest.approx(1, abs=0.02)
    assert controlled(np.full(20, 0.7), weights) == pytest.approx(0.7)
    # mean 1.55, Cov(wl, w) = .45, Var(w) = .05 -> eta -9; 1.55 - 9 (1.05 - 1) = 1.1
    two = controlled(np.array([1.0, 1.8]), np.array([1.0, 1.1]))
    weighted = np.array([1.0, 1.98])
    eta = -(0.98 * 0.1 / 2) / (0.1**2 / 2)
    assert two == pytest.approx(weighted.mean() + eta * 0.05)


def test_groups_are_held_out_whole_and_a_part_of_every_class() -> None:
    task, _ = shifted(images=40)
    together = np.arange(40) // 2
    pairs = type(task)(
        task.source, task.labels, task.domains, together, task.target, task.test, task.classes
    )
    rows = np.arange(4, 40)
    split = held_apart(pairs, rows, parts=4, rng=rng())
    assert split is not None
    train, held_out = split
    assert sorted([*train, *held_out]) == rows.tolist()
    assert not set(together[train]) & set(together[held_out])
    assert set(task.labels[held_out]) == {0, 1}
    assert held_apart(pairs, rows[:3], parts=4, rng=rng()) is None


def two_layers(*, scale: float) -> FittedMlp:
    """Logits (-scale x0, scale x0)."""
    hidden = np.zeros((12, 2), np.float32)
    hidden[0] = (-1, 1)
    last = scale * np.eye(2, dtype=np.float32)
    zeros = np.zeros(2, np.float32)
    return FittedMlp(Scaling(np.zeros(12, np.float32), 1.0), [(hidden, zeros), (last, zeros)])


def test_risks_are_the_held_out_loss_and_the_targets_entropy() -> None:
    task, _ = shifted(images=40)
    rows = (np.arange(20), np.arange(20, 40))
    probabilities = two_layers(scale=1).predict_proba(task.source[20:])
    loss = -np.log(probabilities[np.arange(20), task.labels[20:]]).mean()
    of = {"task": task, "rows": rows, "rng": rng()}
    assert risk(two_layers(scale=1), criterion="source", **of) == pytest.approx(loss)
    unsure = risk(two_layers(scale=0), criterion="entropy", **of)
    assert unsure == pytest.approx(np.log(2))
    assert risk(two_layers(scale=5), criterion="entropy", **of) < unsure


def test_importance_counts_mistakes_where_the_target_is() -> None:
    """Both err on equal shares of the source, one of them where the target's images are."""
    task, _ = shifted(images=400, shift=1.5)
    near = task.source[:, 0, 1] > 0.5
    rows = (np.arange(200), np.arange(200, 400))

    def judged(labels: np.ndarray) -> float:
        told = type(task)(
            task.source, labels, task.domains, task.groups, task.target, task.test, task.classes
        )
        return risk(two_layers(scale=1), told, rows, criterion="importance", rng=rng())

    guess = (task.source[:, 0, 0] > 0).astype(np.int64)
    far_ones = np.flatnonzero(~near)[: near.sum()]
    far = np.isin(np.arange(400), far_ones)
    assert judged(np.where(near, 1 - guess, guess)) > 1.2 * judged(np.where(far, 1 - guess, guess))
