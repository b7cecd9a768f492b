import numpy as np
import pytest
import torch
from torch.nn import functional

from medfocus_pipeline.config import ContrastiveConfig, MlpConfig, SupConConfig
from medfocus_pipeline.heads.contrastive import (
    ContrastiveHead,
    pair_loss,
    projected,
    supcon_loss,
)
from medfocus_pipeline.heads.many import Minibatch
from tests.heads.sets import separable

LABELS = [0, 1, 0, 2, 1, 0]
NETWORK = MlpConfig(widths=(16, 8), epochs=30, least_steps=60, learning_rate=0.01)

SUPCON, PAIRS, UNIT_PAIRS = 3.5161963869274357, 0.7488395173811977, 0.3132295856679921
"""Of the points below, by pytorch-metric-learning 2.9.0 (which normalises them for SUPCON and
UNIT_PAIRS): `SupConLoss(temperature=0.1)`; and, of each pair, `ContrastiveLoss(pos_margin=0,
neg_margin=m)` with `LpDistance(p=2, power=1)` and a reducer that does nothing, squared and halved,
their mean, with m = 2 and m = 1."""


def points() -> torch.Tensor:
    i, j = np.indices((6, 4))
    return torch.from_numpy(np.sin(1 + 0.9 * i + 1.3 * j * (i + 1)))


def batch(fill: int = 0, runs: int = 1) -> Minibatch:
    """The labels above, and rows without an image behind them."""
    labels = torch.tensor([LABELS + [0] * fill] * runs)
    weights = torch.tensor([[1 / 6] * 6 + [0.0] * fill] * runs)
    return Minibatch(torch.zeros(runs, 6 + fill, 1), labels, weights)


@pytest.mark.parametrize("fill", [0, 3])
def test_the_losses_are_those_of_another_package(fill: int) -> None:
    z = functional.pad(points(), (0, 0, 0, fill))[None]
    unit = functional.normalize(z, dim=2)
    assert supcon_loss(unit, batch(fill), temperature=0.1).item() == pytest.approx(SUPCON)
    assert pair_loss(z, batch(fill), margin=2).item() == pytest.approx(PAIRS)
    assert pair_loss(unit, batch(fill), margin=1).item() == pytest.approx(UNIT_PAIRS)


@pytest.mark.parametrize("name", ["pair", "supcon"])
def test_runs_add_up_and_rows_that_only_fill_have_no_gradient(name: str) -> None:
    z = functional.pad(points(), (0, 0, 0, 2)).repeat(2, 1, 1).requires_grad_()

    def loss(points: torch.Tensor, runs: int) -> torch.Tensor:
        if name == "pair":
            return pair_loss(points, batch(2, runs), margin=1)
        return supcon_loss(points, batch(2, runs), temperature=0.1)

    both = loss(z, 2)
    assert both.item() == pytest.approx(2 * loss(z[:1], 1).item())
    torch.autograd.backward(both)
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert not z.grad[:, 6:].any()


def test_equal_points_of_two_classes_have_a_finite_gradient() -> None:
    z = torch.ones(1, 6, 4, requires_grad=True)
    torch.autograd.backward(pair_loss(z, batch(), margin=1))
    assert z.grad is not None
    assert z.grad.isfinite().all()


@pytest.mark.parametrize(
    "config",
    [
        ContrastiveConfig(network=NETWORK, width=4, margin=1.5),
        SupConConfig(network=NETWORK, width=4),
    ],
    ids=lambda config: config.name,
)
def test_a_class_is_near_itself_and_far_from_others(
    config: ContrastiveConfig | SupConConfig,
) -> None:
    train = separable(images=30)
    fitted = ContrastiveHead(config).fit(train, np.random.default_rng(0))
    z = projected(fitted.network, train.features)[:, 0]
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    distances = np.linalg.norm(z[:, None] - z[None], axis=2)
    same = train.labels[:, None] == train.labels[None]
    assert distances[same].mean() < 0.3
    assert distances[~same].mean() > 1
    assert fitted.chosen == {"C": 1.0}
