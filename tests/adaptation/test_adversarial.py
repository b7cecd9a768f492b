from dataclasses import replace

import numpy as np
import pytest
import torch

from medfocus_pipeline.adaptation import Task, make_method
from medfocus_pipeline.adaptation.adversarial import Adversarial
from medfocus_pipeline.adaptation.domain_classifier import (
    Domains,
    domain_set,
    drawn_rows,
    pooled,
    ramp,
    reverse,
)
from medfocus_pipeline.config import MlpConfig
from medfocus_pipeline.config.adaptation import AdversarialConfig, SourceMlpConfig
from medfocus_pipeline.heads.mlp import Network, Scaling
from medfocus_pipeline.types import IntArray
from tests.adaptation.tasks import quarters, shifted

NETWORK = MlpConfig(widths=(16, 8), epochs=40, least_steps=40, learning_rate=0.01, batch_size=32)
CONFIGS = (
    AdversarialConfig(network=NETWORK, width=8),
    AdversarialConfig(name="cdan", network=NETWORK, width=8),
)


def half_way(task: Task, config: AdversarialConfig) -> tuple[Network, Domains]:
    """Two runs' networks and domain classifiers, in the middle of their training."""
    pool = pooled(task)
    sets = [
        domain_set(task, pool, rows, weight=weight, seed=0)
        for rows, weight in zip(quarters(task), (0.5, 2.0), strict=True)
    ]
    rngs = [np.random.default_rng(seed) for seed in (1, 2)]
    network = Network.initial([Scaling.of(one.features) for one in sets], rngs, (12, 16, 8, 2))
    domains = Domains.initial(sets, config)
    domains.step = domains.steps // 2
    return network, domains


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
@pytest.mark.parametrize("sources", [1, 3])
def test_the_shared_layers_get_the_domain_gradient_with_the_opposite_sign(
    config: AdversarialConfig, sources: int
) -> None:
    def gradients(weight: float | None) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        network, domains = half_way(shifted(sources=sources)[0], config)
        if weight is not None:  # reversed twice: an ordinary gradient
            domains.weights = torch.full((2, 1, 1), -weight / ramp(0.5))
        torch.autograd.backward(domains.loss(network))
        shared = [one.grad for one in network.weights[:-2] if one.grad is not None]
        return shared, [one.grad for one in domains.classifier.weights if one.grad is not None]

    (shared, own), (plain, plain_own) = gradients(None), gradients(1.0)
    assert len(shared) == len(plain) == 4
    for ours, ordinary in zip(shared, plain, strict=True):
        assert float(ordinary.abs().max()) > 0
        for run, weight in enumerate((0.5, 2.0)):
            strength = weight * (2 / (1 + np.exp(-5)) - 1)
            torch.testing.assert_close(ours[run], -strength * ordinary[run])
    for ours, ordinary in zip(own, plain_own, strict=True):
        torch.testing.assert_close(ours, ordinary)


def test_the_reversal_is_the_identity_and_its_gradient_that_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(2, 3, 4)), requires_grad=True)
    factors = torch.tensor(rng.normal(size=(2, 3, 4)))
    weight = torch.tensor([0.7, 0.0], dtype=torch.float64)[:, None, None]

    def loss(values: torch.Tensor) -> torch.Tensor:
        return (factors * values**3).sum(dim=(1, 2))

    assert torch.equal(reverse(x, weight), x)
    torch.autograd.backward(loss(reverse(x, weight)).sum())
    step = 1e-6
    for place in np.ndindex(2, 3, 4):
        moved = torch.zeros(2, 3, 4, dtype=torch.float64)
        moved[place] = step
        slope = (loss(x + moved) - loss(x - moved)).sum().item() / (2 * step)
        expected = -weight[place[0]].item() * slope
        assert x.grad is not None
        assert x.grad[place].item() == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_the_weight_rises_from_nothing_as_in_the_paper() -> None:
    assert ramp(0) == 0
    # 2 / (1 + exp(-10 p)) - 1 = tanh(5 p)
    assert [ramp(p) for p in (0.1, 0.5, 1)] == pytest.approx(np.tanh([0.5, 2.5, 5]))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_one_domain_alone_gives_what_the_mlp_gives(config: AdversarialConfig) -> None:
    task, _ = shifted(images=30)
    alone = replace(task, target=task.target[:0])
    fixed = config.model_copy(update={"weights": (1.0,)})
    rows = quarters(task)
    found = make_method(fixed).adapt(alone, rows, [0, 1])
    expected = make_method(SourceMlpConfig(head=NETWORK)).adapt(alone, rows, [0, 1])
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    both = make_method(fixed).adapt(task, rows, [0, 1])
    assert np.abs(both.probabilities - expected.probabilities).max() > 0.01


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_a_shifted_target_is_classified_better_than_without(
    config: AdversarialConfig,
) -> None:
    task, truth = shifted(images=100, shift=3.0)
    rows: list[IntArray] = [np.arange(100)] * 2

    def accuracy(method: AdversarialConfig | SourceMlpConfig) -> float:
        found = make_method(method).adapt(task, rows, [0, 1]).probabilities
        return float((found.argmax(axis=2) == truth).mean())

    without = accuracy(SourceMlpConfig(head=NETWORK))
    assert accuracy(config.model_copy(update={"weights": (1.0,)})) > without + 0.02


def test_a_step_shows_as_many_images_of_each_domain_and_none_that_is_held_out() -> None:
    task, _ = shifted(images=10, sources=2)
    rows = np.array([0, 1, 2, 3, 12, 13])
    one = domain_set(task, pooled(task), rows, weight=1, seed=0)
    drawn = np.concatenate([drawn_rows(one, 5) for _ in range(40)])
    assert set(drawn) == {*rows, *range(20, 30)}
    assert [(one.pool.labels[drawn] == domain).sum() for domain in range(3)] == [200, 200, 200]


def test_the_weight_with_the_least_risk_is_chosen_for_each_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, _ = shifted(images=24)
    config = AdversarialConfig(network=MlpConfig(widths=(4, 4), epochs=1, least_steps=1), width=4)
    judged = iter([3.0, 1.0, 2.0, 5.0, 5.0, 4.0])
    monkeypatch.setattr(
        "medfocus_pipeline.adaptation.adversarial.risk", lambda *_, **__: next(judged)
    )
    found = Adversarial(config).adapt(task, quarters(task), [0, 1])
    assert found.choices == ({"weight": 0.01}, {"weight": 0.03})


def test_too_few_images_to_hold_any_out_take_the_middle_weight() -> None:
    task, _ = shifted(images=6)
    config = AdversarialConfig(network=MlpConfig(widths=(4, 4), epochs=1, least_steps=1), width=4)
    assert make_method(config).adapt(task, [np.arange(6)], [0]).choices == ({"weight": 0.01},)
