from dataclasses import replace

import numpy as np
import pytest
import torch

from medfocus_pipeline.config import ClipAdapterConfig, ZeroShotConfig
from medfocus_pipeline.heads.clip_adapter import ClipAdapterHead, FittedClipAdapter, initial
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.zeroshot import ZeroShotHead
from tests.heads.sets import clip_like


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def fit(train: TrainingSet, config: ClipAdapterConfig) -> FittedClipAdapter:
    return ClipAdapterHead(config).fit(train, rng())


def by_hand(fitted: FittedClipAdapter, f: np.ndarray) -> np.ndarray:
    """Probabilities of one view by the published formula."""
    adapted = np.maximum(np.maximum(f @ fitted.down, 0) @ fitted.up, 0)
    mixed = fitted.ratio * adapted + (1 - fitted.ratio) * f
    logits = fitted.texts.vectors @ (mixed / np.linalg.norm(mixed)) / fitted.texts.temperature
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def test_probabilities_are_those_of_the_formula() -> None:
    train, test = clip_like(images=16, seed=0), clip_like(images=5, seed=1)
    fitted = fit(train, ClipAdapterConfig(epochs=2, least_steps=1, ratio=0.6))
    assert fitted.down.shape == (32, 8)
    assert fitted.up.shape == (8, 32)
    expected = [np.mean([by_hand(fitted, f) for f in views], axis=0) for views in test.features]
    np.testing.assert_allclose(fitted.predict_proba(test.features), expected, atol=1e-5)


def test_with_ratio_0_it_is_the_zero_shot_classifier() -> None:
    train = clip_like(images=16, seed=0)
    fitted = fit(train, ClipAdapterConfig(epochs=2, least_steps=1, ratio=0))
    zero_shot = ZeroShotHead(ZeroShotConfig()).fit(train, rng())
    np.testing.assert_allclose(
        fitted.predict_proba(train.features), zero_shot.predict_proba(train.features), atol=1e-5
    )


def test_one_step_is_that_of_adamw_on_the_formula() -> None:
    train = replace(
        clip_like(images=6, seed=0), features=clip_like(images=6, seed=0).features[:, :1]
    )
    fitted = fit(train, ClipAdapterConfig(epochs=1, least_steps=1, batch_size=6, ratio=0.5))
    down, up = (
        weight.detach()[0].double().requires_grad_() for weight in initial([rng()], 32, reduction=4)
    )
    f = torch.tensor(train.features[:, 0]).double()
    mixed = 0.5 * torch.relu(torch.relu(f @ down) @ up) + 0.5 * f
    cosines = torch.cosine_similarity(
        mixed[:, None], torch.tensor(train.text).double()[None], dim=2
    )
    loss = torch.nn.functional.cross_entropy(cosines / 0.05, torch.tensor(train.labels))
    for weight, gradient, found in zip(
        (down, up), torch.autograd.grad(loss, (down, up)), (fitted.down, fitted.up), strict=True
    ):
        expected = weight - 1e-3 * gradient / (gradient.abs() + 1e-8)
        # AdamW's first step is the sign of the gradient, so rounding shows where it is nearly 0.
        clear = (gradient.abs() > 1e-6) | (gradient == 0)
        assert clear.double().mean() > 0.95
        np.testing.assert_allclose(found[clear], expected.detach()[clear], atol=1e-6)


def test_training_lowers_the_loss_and_leaves_the_texts_alone() -> None:
    train = clip_like(images=32, seed=0)

    def loss(least_steps: int) -> float:
        fitted = fit(train, ClipAdapterConfig(least_steps=least_steps, epochs=1, ratio=0.5))
        np.testing.assert_allclose(fitted.texts.vectors, train.text, atol=1e-6)
        found = fitted.predict_proba(train.features)
        return float(-np.log(found[np.arange(32), train.labels]).mean())

    assert loss(100) < 0.9 * loss(1)


@pytest.mark.parametrize("reduction", [1, 4, 1000])
def test_the_bottleneck_has_the_configured_width(reduction: int) -> None:
    down, up = initial([rng(1), rng(2)], 32, reduction=reduction)
    assert down.shape == (2, 32, max(1, 32 // reduction))
    assert up.shape == (2, max(1, 32 // reduction), 32)
    assert not torch.equal(down[0], down[1])
