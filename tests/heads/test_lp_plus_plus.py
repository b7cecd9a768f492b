from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from medfocus_pipeline.config import LpPlusPlusConfig, ZeroShotConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.heads.lp_plus_plus import (
    LpPlusPlusHead,
    Problem,
    iterates,
    residual,
    start,
    steps,
)
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.zeroshot import Texts, ZeroShotHead
from tests.heads.sets import accuracy, clip_like, take


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def posed(*trains: TrainingSet) -> tuple[Problem, list[Texts]]:
    texts = [Texts.of(train, head="lp_plus_plus") for train in trains]
    return Problem.of(trains, texts), texts


def descend(
    problem: Problem, w: np.ndarray, alpha: np.ndarray, *, config: LpPlusPlusConfig
) -> tuple[np.ndarray, np.ndarray]:
    """W and alpha after all iterations."""
    path = iterates(problem, w, alpha, momentum=config.momentum)
    return next(islice(path, config.iterations, None))


def loss(problem: Problem, w: np.ndarray, alpha: np.ndarray) -> float:
    logits = problem.rows @ w + alpha * problem.cosines
    high = logits.max(axis=2, keepdims=True)
    total = (high + np.log(np.exp(logits - high).sum(axis=2, keepdims=True)))[..., 0]
    return float((total - (logits * problem.truth).sum(axis=2)).mean())


def test_the_start_is_the_class_means_and_the_blend_of_the_encoders_scale() -> None:
    train = clip_like(images=10, seed=0)
    w, alpha = start(*posed(train))
    own = []
    for k in range(4):
        rows = train.features[train.labels == k].reshape(-1, 32)
        np.testing.assert_allclose(w[0, :, k], rows.mean(axis=0), atol=1e-6)
        own.append((rows @ train.text[k]).mean())
    np.testing.assert_allclose(alpha, 2.5 / 0.05 * np.mean(own), rtol=1e-5)
    assert alpha.shape == (1, 1, 4)


def test_a_class_without_images_starts_at_zero_and_moves_no_other() -> None:
    train = clip_like(images=20, seed=0)
    rest = take(train, np.flatnonzero(train.labels != 2))
    w, alpha = start(*posed(rest))
    assert (w[0, :, 2] == 0).all()
    own = [(rest.features[rest.labels == k] @ rest.text[k]).mean() for k in (0, 1, 3)]
    np.testing.assert_allclose(alpha, 2.5 / 0.05 * np.mean(own), rtol=1e-5)


@pytest.mark.parametrize("images", [6, 40], ids=["rows < dimensions", "rows > dimensions"])
def test_step_sizes_come_from_the_data(images: int) -> None:
    train = clip_like(images=images, seed=0)
    problem, _ = posed(train)
    rows = train.features.reshape(-1, 32).astype(np.float64)
    step_w, step_alpha = steps(problem)
    assert step_w.item() == pytest.approx(
        2 * len(rows) / np.linalg.norm(rows, ord=2) ** 2, rel=1e-4
    )
    sums = [sum(float(row @ t) ** 2 for row in rows) for t in train.text]
    assert step_alpha.item() == pytest.approx(2 * len(rows) / max(sums), rel=1e-4)


def test_the_residual_is_the_gradient_of_the_loss() -> None:
    problem, texts = posed(clip_like(images=8, seed=0))
    w, alpha = (array.astype(np.float64) for array in start(problem, texts))
    error = residual(problem, problem.rows @ w + alpha * problem.cosines)
    tiny = 1e-6
    for place in ((0, 3, 1), (0, 20, 2)):
        moved = w.copy()
        moved[place] += tiny
        slope = (loss(problem, moved, alpha) - loss(problem, w, alpha)) / tiny
        gradient = (problem.rows.transpose(0, 2, 1) @ error)[place]
        assert slope == pytest.approx(gradient, abs=1e-4)


def test_one_iteration_by_hand() -> None:
    train = clip_like(images=8, seed=0)
    problem, texts = posed(train)
    w, alpha = start(problem, texts)
    found_w, found_alpha = descend(problem, w, alpha, config=LpPlusPlusConfig(iterations=1))
    rows, s = train.features.reshape(-1, 32).astype(np.float64), problem.cosines[0]
    truth = np.eye(4)[np.repeat(train.labels, 2)]

    def error(w: np.ndarray) -> np.ndarray:
        powers = np.exp(rows @ w + alpha[0] * s)
        return (powers / powers.sum(axis=1, keepdims=True) - truth) / len(rows)

    next_w = w[0] - 2 * len(rows) / np.linalg.norm(rows, ord=2) ** 2 * rows.T @ error(w[0])
    rate = 2 * len(rows) / (s**2).sum(axis=0).max()
    next_alpha = alpha[0] - rate * (error(next_w) * s).sum(axis=0)
    np.testing.assert_allclose(found_w[0], next_w, atol=1e-4)
    np.testing.assert_allclose(found_alpha[0], next_alpha, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_without_momentum_the_loss_never_rises(seed: int) -> None:
    problem, texts = posed(clip_like(images=30, seed=seed))
    w, alpha = start(problem, texts)
    losses = [loss(problem, w, alpha)]
    for _ in range(30):
        w, alpha = descend(problem, w, alpha, config=LpPlusPlusConfig(iterations=1, momentum=0))
        losses.append(loss(problem, w, alpha))
    assert (np.diff(losses) <= 1e-6).all()
    assert losses[-1] < losses[0]


def test_momentum_is_faster() -> None:
    problem, texts = posed(clip_like(images=30, seed=0))
    w, alpha = start(problem, texts)
    plain, heavy = (
        loss(problem, *descend(problem, w, alpha, config=LpPlusPlusConfig(momentum=momentum)))
        for momentum in (0, 0.9)
    )
    assert heavy < plain


def test_probabilities_are_those_of_the_blended_logits() -> None:
    train, test = clip_like(images=16, seed=0), clip_like(images=5, seed=1)
    config = LpPlusPlusConfig(iterations=5)
    fitted = LpPlusPlusHead(config).fit(train, rng())
    problem, texts = posed(train)
    count = fitted.chosen["iterations"]
    assert 0 < count <= 5
    config = LpPlusPlusConfig(iterations=count)
    w, alpha = descend(problem, *start(problem, texts), config=config)
    logits = test.features @ w[0] + alpha[0] * (test.features @ train.text.T)
    powers = np.exp(logits.astype(np.float64))
    expected = (powers / powers.sum(axis=2, keepdims=True)).mean(axis=1)
    np.testing.assert_allclose(fitted.predict_proba(test.features), expected, atol=1e-5)


@pytest.mark.parametrize("good", [True, False], ids=["good texts", "bad texts"])
@single_threaded("torch")
def test_it_comes_near_the_authors_recipe(good: bool) -> None:
    """FereshteShakeri/FewShot-CLIP-Strong-Baseline, methods/linear_probe_p2.py.

    Full-batch SGD with momentum .9 on w and a bias from class sums, alpha every tenth epoch by
    its gradient, which is never zeroed, the epoch by validation, on four images a class as theirs.
    Ten seeds at eight shots. Theirs reads those sixteen labelled images beyond the subset, ours
    none. Over thirty seeds ours is .055 +- .009 above theirs with good texts and .015 +- .009 below
    with those of other classes (in 32 dimensions, where all is near chance, .038 +- .013 below).
    """
    ours, theirs, texts_alone = [], [], []
    for seed in range(10):
        sets = [clip_like(images=n, seed=100 * seed + n, dim=128) for n in (32, 16, 120)]
        if not good:
            sets = [replace(one, text=np.roll(one.text, 1, axis=0)) for one in sets]
        train, val, test = sets
        fitted = LpPlusPlusHead(LpPlusPlusConfig()).fit(train, rng(seed))
        ours.append(accuracy(fitted.predict_proba(test.features), test.labels))
        theirs.append(authors(train, val, test))
        texts_alone.append(((test.features[:, 0] @ test.text.T).argmax(1) == test.labels).mean())
    assert np.mean(ours) > np.mean(theirs) - 0.05
    assert np.mean(ours) > np.mean(texts_alone) - 0.03


def authors(train: TrainingSet, val: TrainingSet, test: TrainingSet) -> float:
    f, v, x = (torch.tensor(one.features[:, 0]) for one in (train, val, test))
    t, y, classes = torch.tensor(train.text).T, torch.tensor(train.labels), train.n_classes
    truth = torch.nn.functional.one_hot(y, classes).float()
    w, bias = (truth.T @ f).requires_grad_(), torch.zeros(classes, requires_grad=True)
    # Their 250 stands beside CLIP's logit scale of 100; here it is 1 / .05.
    first = 2.5 / 0.05 * ((f @ t) * truth).sum() / len(y)
    alpha = torch.full((1, classes), float(first), requires_grad=True)
    rate = 4 * len(f) / float(torch.linalg.eigvalsh(f.T @ f)[-1])
    rate_alpha = len(f) / (4 * float(((f @ t) ** 2).sum(dim=0).max()))
    optimiser = torch.optim.SGD([w, bias], lr=rate, momentum=0.9)
    best, kept = -1.0, 0.0
    for epoch in range(300):
        loss = torch.nn.functional.cross_entropy(f @ w.T + bias + alpha * (f @ t), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            if (epoch + 1) % 10 == 0:
                alpha -= rate_alpha * alpha.grad
            right = [
                float(((a @ w.T + bias + alpha * (a @ t)).argmax(1).numpy() == one.labels).mean())
                for a, one in ((v, val), (x, test))
            ]
        if right[0] >= best:
            best, kept = right
    return kept


def test_one_shot_with_good_texts_is_not_below_zero_shot() -> None:
    learned, texts_alone = [], []
    for seed in range(10):
        train, test = clip_like(images=4, seed=seed), clip_like(images=200, seed=100 + seed)
        fitted = LpPlusPlusHead(LpPlusPlusConfig()).fit(train, rng(seed))
        assert fitted.chosen == {"iterations": 0}
        learned.append(accuracy(fitted.predict_proba(test.features), test.labels))
        zero = ZeroShotHead(ZeroShotConfig()).fit(train, rng()).predict_proba(test.features)
        texts_alone.append(accuracy(zero, test.labels))
    assert np.mean(learned) >= np.mean(texts_alone) - 0.01
