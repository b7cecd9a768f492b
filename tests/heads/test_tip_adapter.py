from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from medfocus_pipeline.config import TipAdapterConfig, TipAdapterFConfig
from medfocus_pipeline.heads import tip_adapter, tip_cache
from medfocus_pipeline.heads.folds import folds
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.tip_adapter import (
    FittedTipAdapter,
    TipAdapterFHead,
    TipAdapterHead,
    train_keys,
)
from medfocus_pipeline.heads.tip_cache import Trial, mean_keys
from medfocus_pipeline.types import IntArray
from tests.heads.sets import clip_like, take

FEW = TipAdapterFConfig(epochs=2, batch_size=16)
GRID = TipAdapterConfig(alphas=(0.1, 1.0, 10.0), betas=(1.0, 5.5, 20.0))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def keys_by_hand(train: TrainingSet) -> np.ndarray:
    keys = np.zeros((len(train.labels), train.features.shape[2]))
    for image, views in enumerate(train.features.astype(np.float64)):
        mean = sum(view / np.linalg.norm(view) for view in views) / len(views)
        keys[image] = mean / np.linalg.norm(mean)
    return keys


def by_hand(
    keys: np.ndarray, train: TrainingSet, test: TrainingSet, *, alpha: float, beta: float
) -> np.ndarray:
    """Probabilities by the published formula, one image and view after the other."""
    found = np.zeros((len(test.labels), train.n_classes))
    for image, views in enumerate(test.features.astype(np.float64)):
        for f in views:
            logits = train.text @ f / train.temperature
            for key, label in zip(keys, train.labels, strict=True):
                logits[label] += alpha * np.exp(-beta * (1 - f @ key))
            powers = np.exp(logits - logits.max())
            found[image] += powers / powers.sum() / len(views)
    return found


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.3, 5.5), (10.0, 50.0), (0.0, 2.0)])
def test_probabilities_are_those_of_the_formula(alpha: float, beta: float) -> None:
    train, test = clip_like(images=24, seed=0), clip_like(images=9, seed=1)
    config = TipAdapterConfig(alphas=(alpha,), betas=(beta,))
    fitted = TipAdapterHead(config).fit(train, rng())
    assert fitted.chosen == {"alpha": alpha, "beta": beta}
    expected = by_hand(keys_by_hand(train), train, test, alpha=alpha, beta=beta)
    np.testing.assert_allclose(fitted.predict_proba(test.features), expected, atol=1e-5)


def test_keys_are_means_over_views_at_unit_length() -> None:
    train = clip_like(images=24, seed=0)
    longer = replace(train, features=train.features * np.float32([[[1], [3]]]))
    np.testing.assert_allclose(mean_keys(longer), keys_by_hand(train), atol=1e-6)


def chosen_by_hand(
    train: TrainingSet, splits: Iterable[tuple[IntArray, IntArray]], config: TipAdapterConfig
) -> dict[str, float]:
    scores, splits = {}, list(splits)
    for alpha in config.alphas:
        for beta in config.betas:
            wrong = loss = 0.0
            for rest, held_out in splits:
                some, other = take(train, rest), take(train, held_out)
                found = by_hand(keys_by_hand(some), some, other, alpha=alpha, beta=beta)
                wrong += (found.argmax(axis=1) != other.labels).sum()
                loss -= np.log(found[np.arange(len(other.labels)), other.labels]).sum()
            scores[wrong, loss] = {"alpha": alpha, "beta": beta}
    return scores[min(scores)]


@pytest.mark.parametrize("seed", range(3))
def test_alpha_and_beta_are_those_of_a_cross_validation_by_hand(seed: int) -> None:
    train = clip_like(images=32, seed=seed)
    splits = folds(train.labels, n_folds=GRID.folds, rng=rng(seed))
    expected = chosen_by_hand(train, splits, GRID)
    assert TipAdapterHead(GRID).fit(train, rng(seed)).chosen == expected


def test_with_two_shots_each_image_is_left_out_alone() -> None:
    others = 0
    for seed in range(10):
        train = clip_like(images=8, seed=seed)
        alone = [(np.delete(np.arange(8), image), np.array([image])) for image in range(8)]
        chosen = TipAdapterHead(GRID).fit(train, rng(seed)).chosen
        assert chosen == chosen_by_hand(train, alone, GRID)
        halves = folds(train.labels, n_folds=2, rng=rng(seed))
        others += chosen != chosen_by_hand(train, halves, GRID)
    assert others > 0, "two folds would choose the same"


@pytest.mark.parametrize("head", [TipAdapterHead(TipAdapterConfig()), TipAdapterFHead(FEW)])
def test_too_few_images_of_a_class_mean_the_start_values(
    head: TipAdapterHead | TipAdapterFHead,
) -> None:
    train = clip_like(images=24, seed=0)
    rare = np.flatnonzero(train.labels == 1)[:1]
    few = take(train, np.concatenate([np.flatnonzero(train.labels != 1), rare]))
    assert head.fit(few, rng()).chosen == {"alpha": 1.0, "beta": 1.0}


def test_of_equal_pairs_the_smaller_is_chosen() -> None:
    train = clip_like(images=24, seed=0)
    config = TipAdapterConfig(alphas=(0.0,), betas=(5.0, 2.0))
    assert TipAdapterHead(config).fit(train, rng()).chosen == {"alpha": 0.0, "beta": 2.0}


def test_one_step_of_the_keys_is_that_of_adamw_by_hand() -> None:
    train = replace(
        clip_like(images=6, seed=0), features=clip_like(images=6, seed=0).features[:, :1]
    )
    config = TipAdapterFConfig(epochs=1, batch_size=6, alpha=0.7, beta=2.0, weight_decay=0.1)
    (found,) = train_keys([train], [rng()], starts=[(0.7, 2.0)], config=config)
    f, start = train.features[:, 0].astype(np.float64), keys_by_hand(train)
    values = np.eye(4)[train.labels]
    near = np.exp(-2.0 * (1 - f @ start.T))
    logits = f @ train.text.T / 0.05 + 0.7 * near @ values
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = (powers / powers.sum(axis=1, keepdims=True) - values) / 6
    gradient = (0.7 * 2.0 * (error @ values.T) * near).T @ f
    rate = config.learning_rate
    expected = start * (1 - rate * 0.1) - rate * gradient / (np.abs(gradient) + 1e-4)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_training_lowers_the_loss_of_the_cache() -> None:
    train = clip_like(images=32, seed=0)
    config = TipAdapterFConfig(alphas=(1.0,), betas=(1.0,), learning_rate=1e-2)
    plain = TipAdapterHead(TipAdapterConfig(alphas=(1.0,), betas=(1.0,))).fit(train, rng())
    trained = TipAdapterFHead(config).fit(train, rng())

    def loss(fitted: FittedTipAdapter) -> float:
        found = fitted.predict_proba(train.features)
        return float(-np.log(found[np.arange(32), train.labels]).mean())

    assert loss(trained) < loss(plain)
    assert np.abs(trained.keys - plain.keys).max() > 1e-3
    np.testing.assert_array_equal(trained.texts.vectors, plain.texts.vectors)


def test_trained_keys_are_judged_by_images_that_they_have_not_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = clip_like(images=24, seed=0)
    judged, seen = [], []
    score, train_some = tip_cache.score, tip_adapter.train_keys

    def spy(trial: Trial, *args: object, **options: object) -> object:
        judged.append(trial)
        return score(trial, *args, **options)

    def spy_training(trains: list[TrainingSet], *args: object, **options: object) -> object:
        seen.extend(len(one.labels) for one in trains)
        return train_some(trains, *args, **options)

    monkeypatch.setattr(tip_cache, "score", spy)
    monkeypatch.setattr(tip_adapter, "train_keys", spy_training)
    TipAdapterFHead(FEW).fit(train, rng())
    assert sorted(seen) == [16, 16, 16, 24]
    # The first choice, which the training starts at, is plain Tip-Adapter's.
    assert sum(len(trial.held_out.labels) for trial in judged) == 2 * 24
    for trial in judged[len(judged) // 2 :]:
        rest = {row.tobytes() for row in trial.rest.features}
        assert not any(row.tobytes() in rest for row in trial.held_out.features)
        assert np.abs(trial.keys - mean_keys(trial.rest)).max() > 0
