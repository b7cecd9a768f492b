import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from medfocus_pipeline.config import LinearConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads import descent
from medfocus_pipeline.heads import linear as module
from medfocus_pipeline.heads.folds import folds
from medfocus_pipeline.heads.linear import FittedLinear, LinearHead, choose_c, fit_rows
from medfocus_pipeline.heads.logistic import Fits
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.row_space import RowSpace
from medfocus_pipeline.heads.table import make_head
from tests.heads.sets import made_up, take


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def fit(train: TrainingSet, *, c: float | None = None) -> FittedLinear:
    config = LinearConfig() if c is None else LinearConfig(c_grid=(c,))
    return LinearHead(config).fit(train, rng())


def by_hand(train: TrainingSet, features: np.ndarray, *, c: float) -> np.ndarray:
    """scikit-learn on the features as they are, far beyond its usual tolerance."""
    _, views, dim = train.features.shape
    model = LogisticRegression(C=c, tol=1e-10, max_iter=100_000)
    model.fit(train.features.astype(np.float64).reshape(-1, dim), np.repeat(train.labels, views))
    found = model.predict_proba(features.astype(np.float64).reshape(-1, dim))
    return found.reshape(len(features), views, -1).mean(axis=1)


@pytest.mark.parametrize("c", [0.1, 10.0, 1000.0])
@pytest.mark.parametrize("dim", [12, 200], ids=["rows > dimensions", "rows < dimensions"])
@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_scikit_learn_called_by_hand(
    c: float, dim: int, classes: int
) -> None:
    train = made_up(dim=dim, classes=classes)
    test = made_up(dim=dim, classes=classes, seed=1).features
    found = fit(train, c=c).predict_proba(test)
    np.testing.assert_allclose(found, by_hand(train, test, c=c), atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dim", [12, 200])
def test_c_is_that_of_a_cross_validation_by_hand(dim: int, seed: int) -> None:
    train = made_up(images=45, dim=dim, seed=seed)
    config = LinearConfig()
    losses = []
    splits = list(folds(train.labels, n_folds=config.folds, rng=rng()))
    for c in config.c_grid:
        held_out_losses = [
            log_loss(
                train.labels[held_out],
                by_hand(take(train, rest), train.features[held_out], c=c),
                labels=[0, 1, 2],
            )
            for rest, held_out in splits
        ]
        losses.append(np.mean(held_out_losses))
    assert fit(train).chosen == {"C": config.c_grid[int(np.argmin(losses))]}


def test_views_of_an_image_are_on_one_side_of_a_fold_and_each_image_is_held_out_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    splitter = StratifiedKFold.split

    def spy(self: StratifiedKFold, rows: np.ndarray, labels: np.ndarray) -> object:
        seen.append(len(labels))
        return splitter(self, rows, labels)

    monkeypatch.setattr(StratifiedKFold, "split", spy)
    train = made_up(images=30)
    parts = list(folds(train.labels, n_folds=3, rng=rng()))
    assert seen == [30], "folds are made of images, not of rows"
    held_out = np.concatenate([part for _, part in parts])
    assert sorted(held_out) == list(range(30))
    assert all(not set(rest) & set(part) for rest, part in parts)


def test_a_class_with_too_few_images_means_the_default_c() -> None:
    train = made_up(images=30)
    rare = np.flatnonzero(train.labels == 1)[:2]
    few = take(train, np.concatenate([np.flatnonzero(train.labels != 1), rare]))
    config = LinearConfig(default_c=7.0, min_images=3)
    assert LinearHead(config).fit(few, rng()).chosen == {"C": 7.0}


def test_folds_are_no_more_than_the_smallest_class_has_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    original = module.folds
    monkeypatch.setattr(
        module,
        "folds",
        lambda *args, n_folds, rng, groups: (
            asked.append(n_folds) or original(*args, n_folds=n_folds, rng=rng, groups=groups)
        ),
    )
    train = made_up(images=30)
    rows = np.concatenate(
        [np.flatnonzero(train.labels != 1), np.flatnonzero(train.labels == 1)[:4]]
    )
    LinearHead(LinearConfig(folds=9)).fit(take(train, rows), rng())
    assert asked == [4]


def test_of_equal_losses_the_smaller_c_is_chosen() -> None:
    train = made_up()
    nothing = TrainingSet(np.ones_like(train.features), train.labels, 3, None)
    assert fit(nothing).chosen == {"C": 0.1}


def test_the_order_of_the_grid_does_not_matter() -> None:
    train = made_up()
    backwards = LinearConfig(c_grid=tuple(reversed(LinearConfig().c_grid)))
    assert LinearHead(backwards).fit(train, rng()).chosen == fit(train).chosen


def test_features_that_say_nothing_give_the_class_shares() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2] * 3)
    train = TrainingSet(np.ones((18, 2, 5), np.float32), labels, 3, None)
    np.testing.assert_allclose(
        fit(train).predict_proba(train.features[:1])[0], [1 / 2, 1 / 3, 1 / 6], atol=1e-4
    )


@pytest.mark.parametrize("absent", [0, 1, 3])
def test_an_absent_class_has_probability_zero(absent: int) -> None:
    train = made_up(images=40, classes=4)
    rest = take(train, np.flatnonzero(train.labels != absent))
    fitted = fit(rest)
    probabilities = fitted.predict_proba(train.features)
    assert (probabilities[:, absent] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert fitted.coef.shape == (4, 12)


def test_two_of_three_classes_are_the_binary_problem() -> None:
    train = made_up(images=40, classes=3)
    rest = take(train, np.flatnonzero(train.labels != 1))
    probabilities = fit(rest, c=10.0).predict_proba(train.features)
    np.testing.assert_allclose(
        probabilities[:, [0, 2]], by_hand(rest, train.features, c=10.0), atol=1e-4
    )


def test_one_image_a_class_is_enough() -> None:
    train = made_up(images=3)
    assert sorted(train.labels) == [0, 1, 2]
    fitted = fit(train)
    assert fitted.chosen == {"C": LinearConfig().default_c}
    assert (fitted.predict_proba(train.features).argmax(axis=1) == train.labels).all()


def test_one_class_is_refused() -> None:
    train = take(made_up(), np.flatnonzero(made_up().labels == 2))
    with pytest.raises(DataError, match=r"12 images of 1 class.*larger fraction or more shots"):
        fit(train)


def test_features_that_are_not_finite_are_refused() -> None:
    train = made_up()
    train.features[3, 1, 4] = np.nan
    with pytest.raises(DataError, match=r"not finite.*cache verify"):
        fit(train)


def test_features_and_labels_of_different_length_are_refused() -> None:
    train = made_up()
    with pytest.raises(DataError, match=r"shape \(36, 3, 12\), expected \(35, views, d\)"):
        fit(TrainingSet(train.features, train.labels[1:], 3, None))


def test_a_fit_that_does_not_converge_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descent, "MAX_ITERATIONS", 1)
    with pytest.raises(DataError, match="did not converge within 1 iterations"):
        fit(made_up())


def test_a_fit_leaks_no_warning_and_leaves_the_training_set_alone() -> None:
    train = made_up(dim=200)
    train.features.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(train)


def test_a_fit_is_a_function_of_training_set_and_generator() -> None:
    one, two = fit(made_up()), fit(made_up())
    assert one.coef.tobytes() == two.coef.tobytes()
    assert one.intercept.tobytes() == two.intercept.tobytes()


def test_make_head_gives_the_head_of_its_configuration() -> None:
    config = LinearConfig(folds=5)
    assert make_head(config) == LinearHead(config)


@given(
    images=st.integers(2, 8),
    views=st.integers(1, 3),
    dim=st.integers(1, 30),
    seed=st.integers(0, 100),
)
def test_the_row_space_keeps_every_inner_product_of_the_centred_rows(
    images: int, views: int, dim: int, seed: int
) -> None:
    features = rng(seed).normal(size=(images, views, dim)).astype(np.float32)
    space = RowSpace.of(features)
    flat = features.reshape(-1, dim).astype(np.float64)
    flat -= flat.mean(axis=0)
    rows = space.rows.reshape(images * views, -1)
    assert rows.shape[1] <= min(dim, images * views)
    np.testing.assert_allclose(rows @ rows.T, flat @ flat.T, atol=1e-9)


@given(images=st.integers(2, 8), dim=st.integers(1, 30), seed=st.integers(0, 100))
def test_restored_weights_give_the_logits_of_the_row_space(
    images: int, dim: int, seed: int
) -> None:
    features = rng(seed).normal(size=(images, 2, dim)).astype(np.float32)
    space = RowSpace.of(features)
    coef = rng(seed).normal(size=(3, space.rows.shape[2]))
    full, intercept = space.restore(coef, np.arange(3.0))
    np.testing.assert_allclose(
        features @ full.T + intercept, space.rows @ coef.T + np.arange(3.0), atol=1e-5
    )


@given(
    images=st.integers(8, 20),
    classes=st.integers(2, 4),
    dim=st.integers(1, 40),
    seed=st.integers(0, 50),
)
@settings(max_examples=25)
def test_probabilities_are_probabilities(images: int, classes: int, dim: int, seed: int) -> None:
    train = made_up(images=images, classes=classes, dim=dim, seed=seed)
    config = LinearConfig(c_grid=(0.1, 10.0))
    probabilities = LinearHead(config).fit(train, rng()).predict_proba(train.features)
    assert probabilities.shape == (images, classes)
    assert probabilities.dtype == np.float64
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_the_first_minimum_of_the_held_out_loss_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = {0.1: 3.0, 1.0: 2.0, 10.0: 2.5}  # of 100 nobody asks
    monkeypatch.setattr(module, "held_out_loss", lambda *args, c: losses[c])
    train = made_up()
    config = LinearConfig(c_grid=(0.1, 1.0, 10.0, 100.0), folds=2)
    chosen = choose_c(train.features.astype(np.float64), train.labels, config=config, rng=rng())
    assert chosen == 1.0


def test_folds_are_fitted_side_by_side_on_what_they_do_not_hold_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    solve = module.solve

    def spy(
        rows: np.ndarray,
        labels: np.ndarray,
        c: float,
        *,
        tolerance: float,
        parts: np.ndarray,
    ) -> Fits:
        calls.append(parts)
        return solve(rows, labels, c, tolerance=tolerance, parts=parts)

    monkeypatch.setattr(module, "solve", spy)
    train = made_up(images=30, views=2)
    choose_c(RowSpace.of(train.features).rows, train.labels, config=LinearConfig(), rng=rng())
    assert 1 < len(calls) <= len(LinearConfig().c_grid)
    parts = calls[0]
    assert parts.shape == (3, 60)
    assert (parts[:, ::2] == parts[:, 1::2]).all(), "views of an image are on one side"
    assert ((~parts).sum(axis=0) == 1).all(), "each row is held out once"


@pytest.mark.parametrize("images", [12, 60], ids=["rows < dimensions", "rows > dimensions"])
def test_rows_that_moved_along_few_directions_are_fitted_without_another_decomposition(
    images: int,
) -> None:
    train = made_up(images=images, dim=50, views=2)
    directions = np.linalg.qr(rng(1).normal(size=(50, 3)))[0]
    moves = rng(2).normal(size=(images, 2, 3))
    scale = rng(3).uniform(0.5, 2, size=(images, 2, 1))
    moved = ((train.features + moves @ directions.T) * scale).astype(np.float32)
    along = np.column_stack([directions, train.features.mean(axis=(0, 1))])
    near = RowSpace.near(moved, RowSpace.of(train.features).basis, along)
    assert near.rows.shape[2] <= 50
    found, expected = (
        fit_rows(space, replace(train, features=moved), c=10.0).predict_proba(moved)
        for space in (near, RowSpace.of(moved))
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_row_space_of_equal_rows_is_empty() -> None:
    space = RowSpace.of(np.ones((2, 2, 9), np.float32))
    assert (space.rows == 0).all()
    assert np.isfinite(space.basis).all()


@pytest.mark.parametrize("images", [5, 40], ids=["rows < dimensions", "rows > dimensions"])
def test_the_axes_of_the_row_space_are_uncorrelated(images: int) -> None:
    space = RowSpace.of(made_up(images=images, dim=20).features)
    rows = space.rows.reshape(-1, space.rows.shape[2])
    products = rows.T @ rows
    np.testing.assert_allclose(products, np.diag(np.diag(products)), atol=1e-10)
    used = np.diag(products) > 0
    np.testing.assert_allclose(
        space.basis.T[used] @ space.basis[:, used], np.eye(used.sum()), atol=1e-6
    )
