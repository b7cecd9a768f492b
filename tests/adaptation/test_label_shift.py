from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from medfocus_pipeline.adaptation import Task, make_method, named
from medfocus_pipeline.adaptation.label_shift import corrected, estimated_shares

KNOWN = np.array([0.5, 0.3, 0.2])


def classified(shares: np.ndarray, *, images: int) -> np.ndarray:
    """Bayes' probabilities with the shares KNOWN, of images of three normal classes with others."""
    rng = np.random.default_rng(0)
    x = rng.normal(rng.choice(3, images, p=shares))[:, None]
    joint = KNOWN * norm.pdf(x, loc=np.arange(3))
    return np.asarray(joint / joint.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("shares", [(0.2, 0.2, 0.6), (0.05, 0.9, 0.05), (0.5, 0.3, 0.2)])
def test_the_shares_are_those_of_greatest_likelihood(shares: tuple[float, ...]) -> None:
    said = classified(np.array(shares), images=4_000)
    found = estimated_shares(said, KNOWN)
    # The same likelihood, found by SLSQP instead of EM.
    best = minimize(
        lambda rho: -np.log(said @ (rho / KNOWN)).mean(),
        np.full(3, 1 / 3),
        method="SLSQP",
        bounds=[(1e-9, 1)] * 3,
        constraints={"type": "eq", "fun": lambda rho: rho.sum() - 1},
        options={"ftol": 1e-12},
    )
    np.testing.assert_allclose(found, best.x, atol=2e-4)
    np.testing.assert_allclose(found, shares, atol=0.05)


def test_corrected_probabilities_are_those_of_bayes_rule() -> None:
    x, shares = np.linspace(-2, 4, 7)[:, None], np.array([0.1, 0.1, 0.8])
    likelihoods = norm.pdf(x, loc=np.arange(3))
    said, expected = (
        joint / joint.sum(axis=1, keepdims=True)
        for joint in (KNOWN * likelihoods, shares * likelihoods)
    )
    np.testing.assert_allclose(corrected(said, KNOWN, shares), expected)


def test_a_class_that_nobody_showed_stays_impossible() -> None:
    said = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [1.0, 0.0, 0.0]])
    shares = estimated_shares(said, np.array([0.5, 0.5, 0.0]))
    assert shares[2] == 0
    assert shares.sum() == pytest.approx(1)
    assert not corrected(said, np.array([0.5, 0.5, 0.0]), shares)[:, 2].any()


def test_other_shares_of_the_target_cost_less_than_without_correction() -> None:
    rng = np.random.default_rng(1)

    def images(shares: tuple[float, float], count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.choice(2, count, p=shares)
        shown = rng.normal(size=(count, 4)) + labels[:, None] * np.array([1.0, 0.5, 0, 0])
        return shown.astype(np.float32), labels

    source, labels = images((0.5, 0.5), 400)
    target, _ = images((0.95, 0.05), 400)
    test, truth = images((0.95, 0.05), 1_000)
    task = Task(
        source[:, None], labels, np.zeros(400, np.int64), np.arange(400), target[:, None], test, 2
    )
    rows = [np.arange(400)]

    def accuracy(name: str) -> float:
        found = make_method(named(name)).adapt(task, rows, [0])
        return float((found.probabilities[0].argmax(axis=1) == truth).mean())

    assert accuracy("label-shift") > accuracy("source") + 0.1
    [choice] = make_method(named("label-shift")).adapt(task, rows, [0]).choices
    assert choice["share 0"] == pytest.approx(0.95, abs=0.07)
    balanced = replace(task, target=task.source)
    [choice] = make_method(named("label-shift")).adapt(balanced, rows, [0]).choices
    assert choice["share 0"] == pytest.approx(0.5, abs=0.05)
