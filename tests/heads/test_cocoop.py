"""CoCoOp against its formulas, with transformers' own text tower as the reference."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from medfocus_pipeline.config import CoCoOpConfig
from medfocus_pipeline.devices import single_threaded
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads import cocoop
from medfocus_pipeline.heads.cocoop import CoCoOpHead, FittedCoCoOp, initial
from medfocus_pipeline.heads.protocol import ManyHead, TrainingSet
from medfocus_pipeline.heads.table import make_head
from tests.heads.prompt_sets import DIM, class_texts, separable, temperature, tiny_source
from tests.heads.sets import accuracy, made_up

SMALL = CoCoOpConfig(epochs=2)
QUICK = CoCoOpConfig(epochs=25, batch_size=4, learning_rate=0.05)

Parameters = dict[str, torch.Tensor]


def fit(train: TrainingSet, config: CoCoOpConfig = SMALL, *, seed: int = 0) -> FittedCoCoOp:
    return CoCoOpHead(config).fit(train, np.random.default_rng(seed))


def drawn(config: CoCoOpConfig = SMALL, *, seed: int = 0) -> Parameters:
    return initial(tiny_source().open(), config=config, rng=np.random.default_rng(seed))


def closed_form(weights: Parameters, features: np.ndarray) -> torch.Tensor:
    """Logits of ``(n, m * d)`` unit features, one image at a time."""
    rows = []
    for feature in torch.tensor(features):
        parts = feature.view(-1, DIM)
        image = parts.sum(dim=0) / math.sqrt(len(parts))
        hidden = torch.relu(weights["hidden"] @ image + weights["hidden_bias"])
        shift = weights["shift"] @ hidden + weights["shift_bias"]
        texts = class_texts(weights["context"] + shift).repeat(1, len(parts))
        rows.append(torch.cosine_similarity(feature[None], texts, dim=1) / temperature())
    return torch.stack(rows)


@pytest.mark.parametrize("parts", [1, 2])
def test_probabilities_are_the_formulas_mean_over_views(parts: int) -> None:
    train = separable(images=6, parts=parts, noise=0.3)
    fitted = fit(train)
    weights = {name: torch.tensor(value) for name, value in fitted.weights.items()}
    logits = [closed_form(weights, train.features[:, v]) for v in range(2)]
    expected = torch.stack(logits).softmax(dim=2).mean(dim=0)
    found = fitted.predict_proba(train.features)
    assert found.shape == (6, 3)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_steps_are_those_of_sgd_on_the_formula() -> None:
    train = separable(images=6, views=1, noise=0.3)
    config = CoCoOpConfig(epochs=3, batch_size=6, weight_decay=0.01)
    weights, labels = drawn(config), torch.tensor(train.labels)
    speeds = {name: torch.zeros_like(value) for name, value in weights.items()}
    # The first epoch warms up, the cosine counts from the second.
    for rate in (1e-5, 0.002, 0.002 * (1 + math.cos(math.pi / 3)) / 2):
        weights = {name: value.detach().requires_grad_() for name, value in weights.items()}
        loss = cross_entropy(closed_form(weights, train.features[:, 0]), labels)
        slopes = torch.autograd.grad(loss, list(weights.values()))
        for (name, value), slope in zip(weights.items(), slopes, strict=True):
            speeds[name] = 0.9 * speeds[name] + slope + 0.01 * value.detach()
            weights[name] = value.detach() - rate * speeds[name]
    found, start = fit(train, config).weights, drawn(config)
    for name, value in weights.items():
        moved = float((value - start[name]).abs().max())
        assert moved > 0
        np.testing.assert_allclose(found[name], value, atol=1e-3 * moved + 1e-8)


def test_a_step_of_one_image_is_the_formulas() -> None:
    train = separable(images=3, views=1, noise=0.3)
    config = CoCoOpConfig(epochs=1, batch_size=1, warmup_rate=0.01, momentum=0, weight_decay=0)
    order = np.random.default_rng(0)
    weights = initial(tiny_source().open(), config=config, rng=order)
    for image in order.permutation(3):
        weights = {name: value.detach().requires_grad_() for name, value in weights.items()}
        logits = closed_form(weights, train.features[[image], 0])
        loss = cross_entropy(logits, torch.tensor(train.labels[[image]]))
        slopes = torch.autograd.grad(loss, list(weights.values()))
        for (name, value), slope in zip(weights.items(), slopes, strict=True):
            weights[name] = value.detach() - 0.01 * slope
    found = fit(train, config).weights
    for name, value in weights.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6)


def test_the_network_starts_as_pytorchs_own_layers() -> None:
    weights = drawn()
    words = tiny_source().open().words("a photo of a")
    assert torch.equal(weights["context"], words)
    assert weights["context"].shape == (4, 32)
    assert weights["hidden"].shape == (1, DIM)  # 24 / 16, rounded down
    assert weights["shift"].shape == (32, 1)
    assert weights["hidden"].abs().max() <= 1 / math.sqrt(DIM)
    wide = initial(
        tiny_source().open(), config=CoCoOpConfig(reduction=1), rng=np.random.default_rng(0)
    )
    assert wide["hidden"].std() == pytest.approx(1 / math.sqrt(3 * DIM), rel=0.1)


def test_only_context_and_network_learn() -> None:
    tower = tiny_source().open()
    before = [tower.vocabulary.clone(), tower.projection.clone(), tower.layers[0].out[0].clone()]
    fitted = fit(separable(), QUICK)
    for name, value in drawn(QUICK).items():
        assert np.abs(fitted.weights[name] - value.numpy()).max() > 1e-3
    after = [tower.vocabulary, tower.projection, tower.layers[0].out[0]]
    for was, now in zip(before, after, strict=True):
        assert torch.equal(was, now)
        assert not now.requires_grad


def test_what_can_be_told_apart_is_told_apart() -> None:
    fitted = fit(separable(), QUICK)
    other = separable(images=60, seed=1)
    assert accuracy(fitted.predict_proba(other.features), other.labels) == 1


def test_shuffled_labels_teach_nothing() -> None:
    rngs = [np.random.default_rng(seed) for seed in range(6)]
    sets = [separable(images=24, seed=seed, noise=0.5) for seed in range(6)]
    shuffled = [
        replace(train, labels=rng.permutation(train.labels))
        for train, rng in zip(sets, rngs, strict=True)
    ]
    other = separable(images=90, seed=100, noise=0.5)
    scores = [
        accuracy(fitted.predict_proba(other.features), other.labels)
        for fitted in CoCoOpHead(QUICK).fit_many(shuffled, rngs)
    ]
    assert np.mean(scores) == pytest.approx(1 / 3, abs=0.12)


def test_runs_side_by_side_are_what_they_are_alone() -> None:
    sets = [separable(images=n, seed=n, noise=0.3) for n in (6, 5, 6)]
    config = CoCoOpConfig(epochs=4, batch_size=2, learning_rate=0.02)
    rngs = [np.random.default_rng(seed) for seed in range(3)]
    together = CoCoOpHead(config).fit_many(sets, rngs)
    for seed, (train, one) in enumerate(zip(sets, together, strict=True)):
        alone = fit(train, config, seed=seed)
        for name, value in alone.weights.items():
            np.testing.assert_allclose(one.weights[name], value, atol=1e-4)
        np.testing.assert_allclose(
            alone.predict_proba(train.features), one.predict_proba(train.features), atol=1e-4
        )


def test_prediction_in_small_portions_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    train = separable()
    fitted = fit(train)
    whole = fitted.predict_proba(train.features)
    monkeypatch.setattr(cocoop, "TOKENS", 1)
    np.testing.assert_allclose(fitted.predict_proba(train.features), whole, atol=1e-6)


def test_a_fit_is_a_function_of_training_set_and_generator() -> None:
    train = separable(images=6)
    torch.manual_seed(1)
    one = fit(train, seed=0)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    two, other = fit(train, seed=0), fit(train, seed=1)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is not touched"
    same = one.predict_proba(train.features).tobytes()
    assert two.predict_proba(train.features).tobytes() == same
    assert other.predict_proba(train.features).tobytes() != same


def test_a_fitted_head_travels_to_another_process() -> None:
    train = separable(images=6)
    fitted = fit(train)
    sent = pickle.dumps(fitted)
    assert len(sent) < 20_000, "the tower stays behind"
    np.testing.assert_array_equal(
        pickle.loads(sent).predict_proba(train.features), fitted.predict_proba(train.features)
    )
    assert fitted.chosen == {}


def test_an_encoder_without_text_tower_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="The head cocoop needs a dual encoder"):
        fit(made_up())


def test_it_is_a_head_of_the_table_that_trains_many() -> None:
    head = make_head(SMALL)
    assert head == CoCoOpHead(SMALL)
    assert isinstance(head, ManyHead)


@single_threaded("torch")
def test_weights_and_probabilities_are_those_of_the_authors_recipe() -> None:
    """KaiyangZhou/CoOp, trainers/cocoop.py by vit_b16_c4_ep10_batch1_ctxv1.yaml; ten seeds.

    One image a step, ten epochs, SGD .002, momentum .9, weight decay 5e-4, the first epoch at
    1e-5, then a cosine by epoch. Initial weights and the order of the images are ours.
    """
    for seed in range(10):
        train = separable(images=6, views=1, noise=0.3, seed=seed)
        order = np.random.default_rng(seed)
        start = initial(tiny_source().open(), config=CoCoOpConfig(), rng=order)
        weights = {name: value.clone().requires_grad_() for name, value in start.items()}
        optimiser = torch.optim.SGD(weights.values(), lr=0.002, momentum=0.9, weight_decay=5e-4)
        for epoch in range(10):
            rate = 1e-5 if epoch == 0 else 0.001 * (1 + math.cos(math.pi * (epoch - 1) / 10))
            optimiser.param_groups[0]["lr"] = rate
            for image in order.permutation(6):
                order.integers(1)  # ours draws a view, the authors a crop
                logits = closed_form(weights, train.features[[image], 0])
                optimiser.zero_grad()
                cross_entropy(logits, torch.tensor(train.labels[[image]])).backward()
                optimiser.step()
        fitted = fit(train, CoCoOpConfig(), seed=seed)
        assert float((weights["context"].detach() - start["context"]).abs().max()) > 1e-2
        for name, value in weights.items():
            np.testing.assert_allclose(fitted.weights[name], value.detach(), atol=1e-4)
        test = separable(images=9, views=1, noise=0.3, seed=100 + seed)
        with torch.no_grad():
            expected = closed_form(weights, test.features[:, 0]).softmax(dim=1)
        np.testing.assert_allclose(fitted.predict_proba(test.features), expected, atol=1e-4)
