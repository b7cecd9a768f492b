"""What every one-class method keeps to, and those that scikit-learn or plain numpy can check."""

import numpy as np
import pytest

from medfocus_pipeline.config import MahalanobisConfig, NeighboursConfig, OneClassSvmConfig
from medfocus_pipeline.errors import ConfigError, DataError
from medfocus_pipeline.gate import ONE_CLASS, default_config, make_one_class
from medfocus_pipeline.gate.mahalanobis import MahalanobisMethod
from medfocus_pipeline.gate.neighbours import NeighboursMethod
from medfocus_pipeline.gate.one_class_svm import OneClassSvmMethod
from medfocus_pipeline.types import FloatArray
from tests.gate.clouds import cloud


def scores(name: str, *features: FloatArray, seed: int = 0) -> list[np.ndarray]:
    method = make_one_class(default_config(name))
    fitted = method.fit(cloud(150, seed=0), np.random.default_rng(seed))
    return [fitted.score(one) for one in features]


@pytest.mark.parametrize("name", ONE_CLASS)
def test_images_of_the_same_kind_score_above_others(name: str) -> None:
    same, other = scores(name, cloud(80, seed=1), cloud(80, seed=2, centre=3))
    assert same.shape == (80,)
    assert same.dtype == np.float64
    assert (same[:, None] > other).mean() > 0.97


@pytest.mark.parametrize("name", ONE_CLASS)
def test_the_generator_decides_all_that_is_drawn(name: str) -> None:
    [first], [again] = scores(name, cloud(20, seed=1)), scores(name, cloud(20, seed=1))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("name", ONE_CLASS)
def test_a_score_does_not_depend_on_the_other_rows(name: str) -> None:
    rows = cloud(30, seed=1)
    together, alone, none = scores(name, rows, rows[7:8], rows[:0])
    assert alone[0] == pytest.approx(together[7], abs=1e-4)
    assert none.shape == (0,)


@pytest.mark.parametrize("name", ONE_CLASS)
@pytest.mark.parametrize(
    ("features", "why"),
    [
        (np.ones((1, 12), np.float32), r"shape \(1, 12\), expected \(n, d\) with 2 images"),
        (np.full((5, 12), np.nan, np.float32), "not finite"),
    ],
)
def test_features_that_nothing_can_be_learned_from_are_refused(
    name: str, features: FloatArray, why: str
) -> None:
    method = make_one_class(default_config(name))
    with pytest.raises(DataError, match=why):
        method.fit(features, np.random.default_rng(0))


def test_images_that_are_all_the_same_are_learned_too() -> None:
    for name in ONE_CLASS:
        method = make_one_class(default_config(name))
        fitted = method.fit(np.ones((6, 12), np.float32), np.random.default_rng(0))
        assert np.isfinite(fitted.score(cloud(5, seed=1))).all(), name


def test_an_unknown_method_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'oc_n'.*Did you mean oc_nn.*mahalanobis, neighbours"):
        default_config("oc_n")


@pytest.mark.parametrize("gamma", [None, 0.5])
def test_the_one_class_svm_scores_as_scikit_learn_does(gamma: float | None) -> None:
    from sklearn.svm import OneClassSVM

    train, test = cloud(150, seed=0), cloud(40, seed=1, centre=3)
    ours = OneClassSvmMethod(OneClassSvmConfig(nu=0.2, gamma=gamma))
    theirs = OneClassSVM(nu=0.2, gamma=gamma or "scale").fit(train)
    found = ours.fit(train, np.random.default_rng(0)).score(test)
    np.testing.assert_allclose(found, theirs.decision_function(test), atol=1e-5)


def test_mahalanobis_scores_as_scikit_learn_does() -> None:
    from sklearn.covariance import LedoitWolf

    train, test = cloud(30, seed=0, dim=40), cloud(20, seed=1, dim=40)
    found = MahalanobisMethod(MahalanobisConfig()).fit(train, np.random.default_rng(0)).score(test)
    np.testing.assert_allclose(found, -LedoitWolf().fit(train).mahalanobis(test), rtol=1e-3)


def test_neighbours_scores_are_the_distances_that_sorting_finds() -> None:
    train, test = cloud(50, seed=0), cloud(9, seed=1)
    method = NeighboursMethod(NeighboursConfig(neighbour=3))
    found = method.fit(train, np.random.default_rng(0)).score(5 * test)
    distances = np.sort(np.linalg.norm(test[:, None] - train[None], axis=2), axis=1)
    np.testing.assert_allclose(found, -distances[:, 2], atol=2e-3)
