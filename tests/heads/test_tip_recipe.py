"""Tip-Adapter and Tip-Adapter-F against the authors' recipe, over ten seeds.

gaopengcuhk/Tip-Adapter, main.py and utils.py: keys trained by AdamW, .001 and epsilon 1e-4, along
a cosine by step, 20 epochs, batch 256. Their search for alpha and beta reads a validation set;
here they are handed ours. They keep the epoch that is best on the test set, here the last.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize, one_hot

from medfocus_pipeline.config import TipAdapterConfig, TipAdapterFConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.tip_adapter import FittedTipAdapter, TipAdapterFHead, TipAdapterHead
from tests.heads.sets import accuracy, clip_like

SEEDS = range(10)
both_texts = pytest.mark.parametrize("good", [True, False], ids=["good texts", "bad texts"])


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def posed(*, images: int, seed: int, good: bool, dim: int = 32) -> TrainingSet:
    train = clip_like(images=images, seed=seed, dim=dim)
    return train if good else replace(train, text=np.roll(train.text, 1, axis=0))


def plain(train: TrainingSet, seed: int) -> FittedTipAdapter:
    return TipAdapterHead(TipAdapterConfig()).fit(train, rng(seed))


def trained(train: TrainingSet, seed: int) -> FittedTipAdapter:
    return TipAdapterFHead(TipAdapterFConfig()).fit(train, rng(seed))


def authors_keys(train: TrainingSet) -> torch.Tensor:
    """``(D, n)``: the mean over the views, at unit length."""
    return normalize(torch.tensor(train.features).double().mean(dim=1)).T


def authors_logits(
    train: TrainingSet, keys: torch.Tensor, f: torch.Tensor, *, alpha: float, beta: float
) -> torch.Tensor:
    values = one_hot(torch.tensor(train.labels), train.n_classes).double()
    cache = (-1 * (beta - beta * (f @ keys))).exp() @ values
    return f @ torch.tensor(train.text).double().T / train.temperature + cache * alpha


def authors_training(
    train: TrainingSet, *, alpha: float, beta: float, batch: int = 256
) -> torch.Tensor:
    """The keys of main.py's run_tip_adapter_F; each time an image is seen, by any of its views."""
    order = torch.Generator().manual_seed(0)
    keys = authors_keys(train).requires_grad_()
    images, labels = torch.tensor(train.features).double(), torch.tensor(train.labels)
    steps = -(-len(labels) // batch)
    optimiser = torch.optim.AdamW([keys], lr=0.001, eps=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 20 * steps)
    for _ in range(20):
        for rows in torch.randperm(len(labels), generator=order).split(batch):
            views = torch.randint(images.shape[1], (len(rows),), generator=order)
            logits = authors_logits(train, keys, images[rows, views], alpha=alpha, beta=beta)
            optimiser.zero_grad()
            cross_entropy(logits, labels[rows]).backward()
            optimiser.step()
            schedule.step()
    return keys.detach()


def authors_probabilities(
    train: TrainingSet, keys: torch.Tensor, test: TrainingSet, *, alpha: float, beta: float
) -> np.ndarray:
    f = torch.tensor(test.features[:, 0]).double()
    logits = authors_logits(train, keys, f, alpha=alpha, beta=beta)
    return logits.softmax(dim=1).numpy()


@both_texts
@single_threaded("torch")
def test_probabilities_of_the_plain_cache_are_the_authors(good: bool) -> None:
    for seed in SEEDS:
        train = posed(images=32, seed=seed, good=good)
        test = posed(images=40, seed=100 + seed, good=good)
        fitted = plain(train, seed)
        expected = authors_probabilities(train, authors_keys(train), test, **fitted.chosen)
        found = fitted.predict_proba(test.features[:, :1])
        np.testing.assert_allclose(found, expected, atol=1e-4)


@both_texts
@single_threaded("torch")
def test_keys_of_one_batch_an_epoch_are_the_authors_at_the_pair_of_plain_tip(good: bool) -> None:
    """A grid of small alphas, at which the keys move; at 1, 1 they would go elsewhere."""
    grid = {"alphas": (0.3, 3.0), "betas": (2.0, 5.5)}
    for seed in SEEDS:
        train = posed(images=32, seed=seed, good=good)
        train = replace(train, features=train.features[:, :1])
        test = posed(images=40, seed=100 + seed, good=good)
        start = TipAdapterHead(TipAdapterConfig(**grid)).fit(train, rng(seed)).chosen
        fitted = TipAdapterFHead(TipAdapterFConfig(**grid)).fit(train, rng(seed))
        keys = authors_training(train, **start)
        np.testing.assert_allclose(fitted.keys, keys.T, atol=1e-4)
        for other in (authors_keys(train), authors_training(train, alpha=1, beta=1)):
            assert (keys - other).abs().max() > 1e-3
        found = fitted.predict_proba(test.features[:, :1])
        expected = authors_probabilities(train, keys, test, **fitted.chosen)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@both_texts
@single_threaded("torch")
def test_minibatches_lead_where_the_authors_do(good: bool) -> None:
    """Views and order are drawn anew: mean accuracies .003 and .001 apart at a batch of eight."""
    config, ours, theirs = TipAdapterFConfig(batch_size=8), [], []
    for seed in SEEDS:
        train = posed(images=32, seed=seed, good=good, dim=128)
        test = posed(images=120, seed=100 + seed, good=good, dim=128)
        fitted = TipAdapterFHead(config).fit(train, rng(seed))
        keys = authors_training(train, batch=8, **plain(train, seed).chosen)
        expected = authors_probabilities(train, keys, test, **fitted.chosen)
        ours.append(accuracy(fitted.predict_proba(test.features[:, :1]), test.labels))
        theirs.append(accuracy(expected, test.labels))
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=0.01)


@both_texts
@single_threaded("torch")
def test_the_choice_inside_the_subset_is_not_below_the_authors_search(good: bool) -> None:
    """Their configs/imagenet.yaml, with sixteen validation images that ours does not read.

    Plain and F: good texts .922 and .930 against their .937 and .929, texts of other classes, for
    which alpha up to 3 is too small, .492 and .483 against .088 and .244.
    """
    found = []
    for seed in SEEDS:
        train, val, test = (
            posed(images=n, seed=100 * place + seed, good=good, dim=128)
            for n, place in ((32, 0), (16, 2), (120, 1))
        )
        ours = [fit(train, seed).predict_proba(test.features) for fit in (plain, trained)]
        for keys in (authors_keys(train), authors_training(train, alpha=1.17, beta=1)):
            pair = authors_search(train, keys, val)
            ours.append(authors_probabilities(train, keys, test, **pair))
        found.append([accuracy(one, test.labels) for one in ours])
    scores = np.mean(found, axis=0)
    assert (scores[:2] > scores[2:] - 0.03).all()


def authors_search(train: TrainingSet, keys: torch.Tensor, val: TrainingSet) -> dict[str, float]:
    """search_hp of utils.py with search_scale [7, 3] and search_step [200, 20]; the first best."""
    alphas = torch.arange(20).double() * (3 - 0.1) / 20 + 0.1
    f, labels = torch.tensor(val.features[:, 0]).double(), torch.tensor(val.labels)
    best, kept = -1.0, {}
    for beta in (torch.arange(200).double() * (7 - 0.1) / 200 + 0.1).tolist():
        texts = authors_logits(train, keys, f, alpha=0, beta=beta)
        cache = authors_logits(train, keys, f, alpha=1, beta=beta) - texts
        right = ((texts + alphas[:, None, None] * cache).argmax(dim=2) == labels).double().mean(1)
        if right.max() > best:
            best, kept = float(right.max()), {"alpha": float(alphas[right.argmax()]), "beta": beta}
    return kept
