"""Deep SVDD and OC-NN: their objectives fall, and are what plain numpy says that they are."""

from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from medfocus_pipeline.config import DeepSvddConfig, OcNnConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.gate.deep_svdd import DeepSvddMethod, FittedDeepSvdd
from medfocus_pipeline.gate.oc_nn import FittedOcNn, OcNnMethod
from tests.gate.clouds import cloud

TRAIN = cloud(150, seed=0)


def svdd(config: DeepSvddConfig, seed: int = 0) -> FittedDeepSvdd:
    return DeepSvddMethod(config).fit(TRAIN, np.random.default_rng(seed))


def oc_nn(config: OcNnConfig) -> FittedOcNn:
    return OcNnMethod(config).fit(TRAIN, np.random.default_rng(0))


def unit_square(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rows of the mean square 1, in double precision."""
    wide = rows.astype(np.float64)
    return wide / np.sqrt(np.square(wide).mean(axis=1, keepdims=True))


def distances(fitted: FittedDeepSvdd) -> NDArray[np.float64]:
    """|phi(x) - c|^2 of the training images, image by image."""
    first, second = (layer.astype(np.float64) for layer in fitted.layers)
    far = []
    for x in unit_square(TRAIN):
        hidden = np.array([z if z > 0 else 0.1 * z for z in first.T @ x])
        far.append(float(((second.T @ hidden - fitted.centre) ** 2).sum()))
    return np.array(far)


@pytest.mark.parametrize("boundary", ["one_class", "soft"])
def test_the_objective_of_deep_svdd_falls_to_what_numpy_computes(
    boundary: Literal["one_class", "soft"],
) -> None:
    config = DeepSvddConfig(boundary=boundary, nu=0.2, weight_decay=1e-3, widths=(16, 8))
    fitted = svdd(config)
    far, squares = distances(fitted), sum(np.square(one).sum() for one in fitted.layers)
    expected = far.mean()
    if boundary == "soft":
        assert (far > fitted.radius).mean() == pytest.approx(0.2, abs=0.01)
        over = [max(0.0, one - fitted.radius) for one in far]
        expected = fitted.radius + sum(over) / (0.2 * len(far))
    assert fitted.objective[-1] == pytest.approx(expected + 1e-3 / 2 * squares, rel=1e-4)
    assert len(fitted.objective) == 1 + config.epochs
    assert fitted.objective[-1] < 0.3 * fitted.objective[0]


def test_deep_svdd_scores_by_the_distance_to_its_point() -> None:
    fitted = svdd(DeepSvddConfig(boundary="soft", widths=(16, 8)))
    np.testing.assert_allclose(fitted.score(TRAIN), fitted.radius - distances(fitted), atol=1e-5)


def test_the_point_of_deep_svdd_is_the_first_output_kept_from_zero() -> None:
    """With the same draws and hardly any step, the outputs are the first ones."""
    fitted = svdd(DeepSvddConfig(widths=(16, 32), epochs=1, learning_rate=1e-9))
    first, second = (layer.astype(np.float64) for layer in fitted.layers)
    hidden = unit_square(TRAIN) @ first
    mean = (np.where(hidden > 0, hidden, 0.1 * hidden) @ second).mean(axis=0)
    near = np.abs(mean) < 0.1
    assert near.any()
    np.testing.assert_allclose(fitted.centre[~near], mean[~near], atol=1e-5)
    np.testing.assert_allclose(fitted.centre[near], 0.1 * np.sign(mean[near]), atol=1e-6)


def test_deep_svdd_does_not_collapse_onto_its_point() -> None:
    """What it learned still tells another kind of image apart from its own."""
    fitted = svdd(DeepSvddConfig(epochs=200))
    same, other = fitted.score(cloud(80, seed=1)), fitted.score(cloud(80, seed=2, centre=3))
    assert (same[:, None] > other).mean() > 0.97


def test_the_objective_of_oc_nn_falls_to_what_numpy_computes() -> None:
    config = OcNnConfig(nu=0.2, width=8, epochs=100, learning_rate=1e-2)
    fitted = oc_nn(config)
    hidden, last = fitted.hidden.astype(np.float64), fitted.last.astype(np.float64)
    y = np.array([last @ (1 / (1 + np.exp(-hidden.T @ x))) for x in unit_square(TRAIN)])
    below = sum(max(0.0, fitted.offset - one) for one in y) / (0.2 * len(y))
    expected = (np.square(last).sum() + np.square(hidden).sum()) / 2 + below - fitted.offset
    assert fitted.objective[-1] == pytest.approx(expected, rel=1e-4)
    assert len(fitted.objective) == 1 + config.epochs
    assert fitted.objective[-1] < fitted.objective[0] - 1
    np.testing.assert_allclose(fitted.score(TRAIN), y - fitted.offset, atol=1e-5)


def test_r_of_oc_nn_is_the_nu_quantile_of_the_scores_where_the_objective_is_least() -> None:
    fitted = oc_nn(OcNnConfig(nu=0.2, width=8))
    y = fitted.score(TRAIN) + fitted.offset
    assert (y < fitted.offset).mean() == pytest.approx(0.2, abs=0.01)

    def part(r: float) -> float:
        return float(np.maximum(0, r - y).mean() / 0.2 - r)

    assert all(part(fitted.offset) <= part(r) + 1e-6 for r in np.linspace(y.min(), y.max(), 99))


def test_a_training_that_diverges_says_so() -> None:
    with pytest.raises(DataError, match=r"diverged.*learning_rate below 1e\+30"):
        svdd(DeepSvddConfig(learning_rate=1e30))
