import math

import numpy as np
import pytest

from medfocus_pipeline.config import FusionConfig, LinearConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads import fusion_lambda as module
from medfocus_pipeline.heads.fusion import FusionHead
from medfocus_pipeline.heads.fusion_lambda import LambdaCurve, Run, Trial, curves
from medfocus_pipeline.heads.fusion_mix import Weights
from medfocus_pipeline.heads.fusion_train import train_fusions
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.row_space import RowSpace
from tests.heads.sets import dual_encoder, made_up, take

GRID = (0.2, 0.5, 0.9)
CONFIG = FusionConfig(
    width=8, epochs=3, loss_mix_grid=GRID, classifier=LinearConfig(c_grid=(10.0,))
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_curve_has_a_finite_score_of_each_lambda_and_of_both_ends() -> None:
    train = dual_encoder(images=24, seed=0)
    curve = FusionHead(CONFIG).lambda_curve(train, (1.0, 0.0, 0.5, 0.5))
    assert curve.lambdas == (0.0, 0.5, 1.0)
    assert all(0 < loss < math.inf for loss in curve.log_losses)
    assert all(0 <= share <= 1 for share in curve.accuracies)
    assert len(set(curve.log_losses)) == 3, "lambda changes what is learned"


def test_the_fit_takes_the_least_loss_of_the_curve_and_is_that_of_its_lambda() -> None:
    train = dual_encoder(images=24, seed=0)
    head = FusionHead(CONFIG)
    fitted, curve = head.fit(train, rng(7)), head.lambda_curve(train, GRID)
    assert fitted.chosen["lambda"] == curve.best
    fixed = FusionHead(CONFIG.model_copy(update={"loss_mix": curve.best})).fit(train, rng(7))
    np.testing.assert_array_equal(
        fixed.predict_proba(train.features), fitted.predict_proba(train.features)
    )


def test_seeds_of_one_subset_share_the_choice_and_train_on_their_own() -> None:
    train = dual_encoder(images=24, seed=0)
    fits = FusionHead(CONFIG).fit_many([train, train], [rng(1), rng(2)])
    alone = FusionHead(CONFIG).fit(train, rng(2))
    assert fits[0].chosen == fits[1].chosen == alone.chosen
    own = [fitted.predict_proba(train.features) for fitted in (*fits, alone)]
    assert not np.array_equal(own[0], own[1])
    np.testing.assert_allclose(own[1], own[2], atol=1e-5)


def test_the_least_loss_is_the_best_and_the_smaller_lambda_of_equals() -> None:
    assert LambdaCurve((0.1, 0.5, 0.9), (2.0, 1.0, 1.0), (0.9, 0.1, 0.1)).best == 0.5


def test_every_image_is_held_out_once_with_all_its_views(monkeypatch: pytest.MonkeyPatch) -> None:
    train = made_up(images=20)
    seen: list[Trial] = []

    def judge(
        run: Run, trial: Trial, weights: Weights, *, config: FusionConfig
    ) -> tuple[float, float]:
        views = np.flatnonzero(np.isin(np.arange(60) // 3, trial.images))
        np.testing.assert_array_equal(run.training(trial.images, mix=0.5).rows, views)
        assert not np.intersect1d(trial.images, trial.held_out).size
        seen.append(trial)
        return float(trial.mix), float(trial.fold)

    monkeypatch.setattr(module, "judge", judge)
    curve = FusionHead(CONFIG).lambda_curve(train, (0.0, 1.0))
    for mix in range(2):
        held = np.concatenate([trial.held_out for trial in seen if trial.mix == mix])
        np.testing.assert_array_equal(np.sort(held), np.arange(20))
    assert curve.log_losses == (0.0, 1.0)
    assert curve.accuracies == (0.5, 0.5), "the mean of folds 0 and 1"


def begun(train: TrainingSet, *, seed: int = 0) -> Run:
    axes = RowSpace.of(train.features).basis
    return FusionHead(CONFIG)._run(train, axes, 10.0, rng(seed))


def test_a_fold_is_judged_without_its_labels() -> None:
    """Trained weights of a fold do not change with the labels of the held-out images."""
    train = dual_encoder(images=24, seed=0)
    run = begun(train)
    images, held_out = next(run.folds(3))
    other = train.labels.copy()
    other[held_out] = (other[held_out] + 1) % 4
    poisoned = TrainingSet(train.features, other, 4, train.text)
    weights = [
        next(iter(train_fusions([one.training(images, mix=0.5)], config=CONFIG)))
        for one in (run, begun(poisoned))
    ]
    for name, tensor in weights[0].items():
        assert tensor.equal(weights[1][name]), name


def test_two_images_of_the_smallest_class_make_two_folds_and_one_is_refused() -> None:
    train = made_up(images=24)
    rest, few = np.flatnonzero(train.labels != 1), np.flatnonzero(train.labels == 1)
    curve = FusionHead(CONFIG).lambda_curve(take(train, np.append(rest, few[:2])), GRID)
    assert curve.lambdas == GRID
    with pytest.raises(DataError, match="class of the training subset has 1 image"):
        FusionHead(CONFIG).lambda_curve(take(train, np.append(rest, few[:1])), GRID)


def test_curves_of_runs_side_by_side_are_those_of_each() -> None:
    runs = [begun(dual_encoder(images=images, seed=images), seed=images) for images in (24, 34)]
    for together, run in zip(curves(runs, GRID, config=CONFIG), runs, strict=True):
        [alone] = curves([run], GRID, config=CONFIG)
        np.testing.assert_allclose(together.log_losses, alone.log_losses, atol=1e-4)
        assert together.accuracies == alone.accuracies
