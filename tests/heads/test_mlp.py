from dataclasses import replace

import numpy as np
import pytest
import torch

from medfocus_pipeline.config import MlpConfig
from medfocus_pipeline.heads.mlp import FittedMlp, MlpHead, Scaling, initial
from medfocus_pipeline.heads.protocol import TrainingSet
from tests.heads.sets import accuracy, made_up

SMALL = MlpConfig(widths=(16, 8), epochs=3, least_steps=1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def fit(train: TrainingSet, config: MlpConfig = SMALL) -> FittedMlp:
    return MlpHead(config).fit(train, rng())


def test_probabilities_are_those_of_three_layers() -> None:
    train, test = made_up(), made_up(images=5, seed=1)
    fitted = fit(train)
    assert [weight.shape for weight, _ in fitted.layers] == [(12, 16), (16, 8), (8, 3)]
    expected = []
    for views in test.features:
        probabilities = []
        for f in views:
            (w1, b1), (w2, b2), (w3, b3) = fitted.layers
            x = (f - train.features.mean(axis=(0, 1))) / fitted.scaling.deviation
            logits = np.maximum(np.maximum(x @ w1 + b1, 0) @ w2 + b2, 0) @ w3 + b3
            powers = np.exp(logits)
            probabilities.append(powers / powers.sum())
        expected.append(np.mean(probabilities, axis=0))
    np.testing.assert_allclose(fitted.predict_proba(test.features), expected, atol=1e-5)


def test_one_step_is_that_of_adamw_on_the_layers() -> None:
    train = made_up(images=9, views=1)
    fitted = fit(
        train, MlpConfig(widths=(16, 8), epochs=1, least_steps=1, batch_size=9, weight_decay=0.5)
    )
    generator = rng()
    layers = [initial([generator], *shape) for shape in ((12, 16), (16, 8), (8, 3))]
    weights = [part.detach()[0].double().requires_grad_() for layer in layers for part in layer]
    f = train.features[:, 0].astype(np.float64)
    x = torch.tensor((f - f.mean(axis=0)) / np.sqrt(np.square(f - f.mean(axis=0)).mean()))
    w1, b1, w2, b2, w3, b3 = weights
    logits = torch.relu(torch.relu(x @ w1 + b1) @ w2 + b2) @ w3 + b3
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(train.labels))
    gradients = torch.autograd.grad(loss, weights)
    found = [part for layer in fitted.layers for part in layer]
    for weight, gradient, moved in zip(weights, gradients, found, strict=True):
        expected = weight * (1 - 1e-3 * 0.5) - 1e-3 * gradient / (gradient.abs() + 1e-8)
        clear = ((gradient.abs() > 1e-5) | (gradient == 0)).reshape(moved.shape)
        assert clear.double().mean() > 0.9
        np.testing.assert_allclose(
            moved[clear], expected.detach().reshape(moved.shape)[clear], atol=1e-6
        )


def test_scaled_features_have_mean_0_and_deviation_1() -> None:
    features = made_up().features * 7 + 3
    scaling = Scaling.of(features)
    x = (features - scaling.mean) / scaling.deviation
    np.testing.assert_allclose(x.mean(axis=(0, 1)), 0, atol=1e-5)
    assert np.square(x).mean() == pytest.approx(1, rel=1e-4)


def test_features_that_are_all_the_same_give_the_class_shares() -> None:
    train = made_up()
    nothing = replace(train, features=np.ones_like(train.features), labels=np.arange(36) // 30)
    found = fit(nothing, MlpConfig(widths=(8, 4), epochs=150, learning_rate=0.03, weight_decay=0))
    first, second, absent = found.predict_proba(nothing.features[:1])[0]
    assert first / second == pytest.approx(5, rel=0.1)
    assert absent < 0.1


def test_it_learns_what_is_not_linear() -> None:
    def rings(seed: int) -> TrainingSet:
        generator = rng(seed)
        labels = np.arange(120) % 2
        angles = generator.uniform(0, 2 * np.pi, (120, 1))
        radii = (1 + labels)[:, None] + 0.1 * generator.normal(size=(120, 1))
        features = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=2)
        return TrainingSet(features.astype(np.float32), labels, 2, None)

    fitted = fit(rings(0), MlpConfig(widths=(32, 16), epochs=40, learning_rate=0.01))
    test = rings(1)
    assert accuracy(fitted.predict_proba(test.features), test.labels) > 0.95


def test_first_weights_suit_rectifiers() -> None:
    weight, bias = initial([rng(1), rng(2)], 400, 50)
    assert float(weight[0].detach().std()) == pytest.approx((2 / 400) ** 0.5, rel=0.05)
    assert (bias == 0).all()
    assert not torch.equal(weight[0], weight[1])
