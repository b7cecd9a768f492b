"""The batched solver against scikit-learn and against the conditions of an optimum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads import descent, logistic
from medfocus_pipeline.heads.common import softmax
from medfocus_pipeline.heads.logistic import Fits, solve

GRID = tuple(np.geomspace(0.1, 1e4, 11).tolist())


def problem(
    *, rows: int = 60, dim: int = 12, classes: int = 4, noise: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(rows) % classes)
    x = rng.normal(size=(classes, dim))[labels] + noise * rng.normal(size=(rows, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True), labels


def probabilities(fits: Fits, x: np.ndarray, *, part: int = 0) -> np.ndarray:
    return softmax(x @ fits.coef[part].T + fits.intercept[part])


def reference(x: np.ndarray, labels: np.ndarray, c: float) -> LogisticRegression:
    return LogisticRegression(C=c, tol=1e-9, max_iter=100_000).fit(x, labels)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("dim", [12, 100], ids=["overlapping classes", "separable classes"])
def test_every_c_of_a_grid_has_the_probabilities_of_scikit_learn(dim: int, classes: int) -> None:
    x, labels = problem(dim=dim, classes=classes)
    unseen, _ = problem(dim=dim, classes=classes, seed=1)
    for c in GRID[::3]:
        found = probabilities(solve(x, labels, c, tolerance=1e-6), unseen)
        expected = reference(x, labels, c).predict_proba(unseen)
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=f"C={c}")


def test_coefficients_of_three_classes_are_those_of_scikit_learn() -> None:
    x, labels = problem(classes=3)
    fits = solve(x, labels, 1.0, tolerance=1e-8)
    model = reference(x, labels, 1.0)
    np.testing.assert_allclose(fits.coef[0], model.coef_, atol=1e-5)
    np.testing.assert_allclose(fits.intercept[0], model.intercept_, atol=1e-5)


def test_two_classes_are_the_binomial_model_of_scikit_learn() -> None:
    x, labels = problem(classes=2)
    fits = solve(x, labels, 3.0, tolerance=1e-8)
    model = reference(x, labels, 3.0)
    np.testing.assert_allclose(fits.coef[0, 1] * 2, model.coef_[0], atol=1e-5)
    np.testing.assert_allclose(fits.coef[0, 0], -fits.coef[0, 1], atol=1e-12)
    np.testing.assert_allclose(fits.intercept[0, 1] * 2, model.intercept_[0], atol=1e-5)


@given(
    rows=st.integers(6, 40),
    dim=st.integers(1, 30),
    classes=st.integers(2, 5),
    power=st.floats(-2, 4),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30)
def test_the_gradient_of_scikit_learn_s_objective_is_zero(
    rows: int, dim: int, classes: int, power: float, seed: int
) -> None:
    x, labels = problem(rows=rows, dim=dim, classes=classes, noise=3.0, seed=seed)
    c = 10**power
    fits = solve(x, labels, c, tolerance=1e-9)
    residuals = probabilities(fits, x) - np.eye(classes)[labels]
    penalty = fits.coef[0] * (2 if classes == 2 else 1) / c
    np.testing.assert_allclose((residuals.T @ x + penalty) / rows, 0, atol=1e-8)
    np.testing.assert_allclose(residuals.mean(axis=0), 0, atol=1e-8)


def test_parts_are_fitted_as_if_they_were_alone() -> None:
    x, labels = problem()
    parts = np.ones((3, len(x)), np.bool_)
    for part in range(3):
        parts[part, part::3] = False
    for c in GRID:
        fits = solve(x, labels, c, tolerance=1e-8, parts=parts)
        for part, mask in enumerate(parts):
            alone = solve(x[mask], labels[mask], c, tolerance=1e-8)
            np.testing.assert_allclose(
                probabilities(fits, x, part=part), probabilities(alone, x), atol=1e-6
            )


def test_labels_may_have_gaps() -> None:
    x, labels = problem(classes=3)
    fits = solve(x, np.array([1, 5, 7])[labels], 10.0, tolerance=1e-6)
    assert fits.classes.tolist() == [1, 5, 7]
    plain = solve(x, labels, 10.0, tolerance=1e-6)
    assert fits.coef.tobytes() == plain.coef.tobytes()


def test_columns_that_are_constant_or_zero_weigh_nothing() -> None:
    x, labels = problem(dim=5)
    padded = np.hstack([x - x.mean(axis=0), np.zeros((len(x), 2))])
    fits = solve(padded, labels, 10.0, tolerance=1e-6)
    assert (fits.coef[..., 5:] == 0).all()


def test_rows_that_say_nothing_give_the_shares_of_the_classes() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2] * 3)
    for c in GRID:
        fits = solve(np.zeros((18, 4)), labels, c, tolerance=1e-6)
        found = probabilities(fits, np.zeros((1, 4)))
        np.testing.assert_allclose(found, [[1 / 2, 1 / 3, 1 / 6]])


@pytest.mark.parametrize("c", [1e6, 1e9])
def test_separable_classes_converge_at_a_great_c(c: float) -> None:
    x, labels = problem(rows=40, dim=60, classes=3)
    found = probabilities(solve(x, labels, c, tolerance=1e-6), x)
    assert (found.argmax(axis=1) == labels).all()
    assert found.max(axis=1).min() > 0.999


def test_separable_classes_converge_along_any_axes() -> None:
    x, labels = problem(rows=30, dim=512, noise=0.3)
    x = x - x.mean(axis=0)
    turned = x @ np.linalg.qr(np.random.default_rng(2).normal(size=(512, 512)))[0]
    [far, near] = (solve(rows, labels, 2e3, tolerance=1e-6) for rows in (turned, x))
    np.testing.assert_allclose(probabilities(far, turned), probabilities(near, x), atol=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_the_rows_does_not_hinder(scale: float) -> None:
    x, labels = problem()
    fits = solve(scale * x, labels, 10.0 / scale**2, tolerance=1e-7)
    plain = solve(x, labels, 10.0, tolerance=1e-7)
    np.testing.assert_allclose(probabilities(fits, scale * x), probabilities(plain, x), atol=1e-6)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-7])
def test_probabilities_are_about_as_good_as_the_tolerance(tolerance: float) -> None:
    x, labels = problem(rows=200, dim=40, noise=2.0)
    for c in GRID:
        exact, fits = (solve(x, labels, c, tolerance=one) for one in (1e-10, tolerance))
        off = probabilities(fits, x) - probabilities(exact, x)
        assert np.abs(off).max() < 5 * tolerance


def test_a_fit_that_does_not_converge_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descent, "MAX_ITERATIONS", 2)
    x, labels = problem()
    with pytest.raises(DataError, match=r"of \d+ logistic regressions did not .* smaller values"):
        solve(x, labels, 1e4, tolerance=1e-6)


def test_equal_arguments_give_equal_bytes_and_stay_as_they_were() -> None:
    x, labels = problem()
    x.setflags(write=False)
    first, second = (solve(x, labels, 10.0, tolerance=1e-6) for _ in range(2))
    assert first.coef.tobytes() == second.coef.tobytes()
    assert first.intercept.tobytes() == second.intercept.tobytes()


def test_a_batch_that_is_too_large_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    minimise = logistic.minimise

    def spy(problems: descent.Problems, start: np.ndarray, *, tolerance: float) -> np.ndarray:
        sizes.append(len(start))
        return minimise(problems, start, tolerance=tolerance)

    monkeypatch.setattr(logistic, "minimise", spy)
    x, labels = problem()
    parts = np.ones((3, len(x)), np.bool_)
    for part in range(3):
        parts[part, part::3] = False
    whole = solve(x, labels, 10.0, tolerance=1e-8, parts=parts)
    monkeypatch.setattr(logistic, "MAX_LOGITS", 2 * 4 * len(x))
    split = solve(x, labels, 10.0, tolerance=1e-8, parts=parts)
    assert sizes == [3, 2, 1]
    np.testing.assert_allclose(split.coef, whole.coef, atol=1e-6)
