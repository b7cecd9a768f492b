from dataclasses import replace

import numpy as np
import pytest
import torch

from medfocus_pipeline.config import ClipAdapterConfig, ZeroShotConfig
from medfocus_pipeline.devices import single_threaded
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
    fitted = fit(train, ClipAdapterConfig(epochs=(2, 2, 2), ratio=0.6))
    assert fitted.down.shape == (32, 8)
    assert fitted.up.shape == (8, 32)
    expected = [np.mean([by_hand(fitted, f) for f in views], axis=0) for views in test.features]
    np.testing.assert_allclose(fitted.predict_proba(test.features), expected, atol=1e-5)


def test_with_ratio_0_it_is_the_zero_shot_classifier() -> None:
    train = clip_like(images=16, seed=0)
    fitted = fit(train, ClipAdapterConfig(epochs=(2, 2, 2), ratio=0))
    zero_shot = ZeroShotHead(ZeroShotConfig()).fit(train, rng())
    np.testing.assert_allclose(
        fitted.predict_proba(train.features), zero_shot.predict_proba(train.features), atol=1e-5
    )


@pytest.mark.parametrize("good", [True, False], ids=["good texts", "bad texts"])
@single_threaded("torch")
def test_weights_are_those_of_the_authors_recipe(good: bool) -> None:
    """gaopengcuhk/CLIP-Adapter, clip_adapter.py, by KaiyangZhou/CoOp, rn50_ep50.yaml.

    SGD .002, momentum .9, weight decay 5e-4, a first epoch at 1e-5, then a cosine by epoch;
    50 epochs at one shot, ratio .2. Ten seeds.
    """
    for seed in range(10):
        train = clip_like(images=4, seed=seed)
        train = replace(train, features=train.features[:, :1])
        if not good:
            train = replace(train, text=np.roll(train.text, 1, axis=0))
        fitted = ClipAdapterHead(ClipAdapterConfig()).fit(train, rng(seed))
        draws = rng(seed)
        weights = [one[0].double().requires_grad_() for one in initial([draws], 32, reduction=4)]
        down, up = weights
        optimiser = torch.optim.SGD(weights, lr=0.002, momentum=0.9, weight_decay=5e-4)
        f, labels = torch.tensor(train.features[:, 0]).double(), torch.tensor(train.labels)
        for epoch in range(50):
            rate = 1e-5 if epoch == 0 else 0.001 * (1 + np.cos(np.pi * (epoch - 1) / 50))
            optimiser.param_groups[0]["lr"] = rate
            mixed = 0.2 * torch.relu(torch.relu(f @ down) @ up) + 0.8 * f
            cosines = torch.nn.functional.normalize(mixed) @ torch.tensor(train.text).double().T
            loss = torch.nn.functional.cross_entropy(cosines / 0.05, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        assert fitted.chosen == {"epochs": 50}
        np.testing.assert_allclose(fitted.down, down.detach(), atol=1e-4)
        np.testing.assert_allclose(fitted.up, up.detach(), atol=1e-4)


@pytest.mark.parametrize("reduction", [1, 4, 1000])
def test_the_bottleneck_has_the_configured_width(reduction: int) -> None:
    down, up = initial([rng(1), rng(2)], 32, reduction=reduction)
    assert down.shape == (2, 32, max(1, 32 // reduction))
    assert up.shape == (2, max(1, 32 // reduction), 32)
    assert not torch.equal(down[0], down[1])
