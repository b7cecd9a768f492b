import numpy as np
import pytest
import torch

from medfocus_pipeline.config import MlpConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads import many
from medfocus_pipeline.heads.many import (
    Minibatch,
    all_steps,
    cross_entropy,
    descend,
    drawn,
    gather,
    in_groups,
    minibatches,
)
from medfocus_pipeline.heads.protocol import TrainingSet
from tests.heads.sets import made_up


def rngs(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


def numbered(images: int, *, views: int = 3) -> TrainingSet:
    """Image i has the features (i, view) and the label i."""
    features = np.zeros((images, views, 2), np.float32)
    features[..., 0] = np.arange(images)[:, None]
    features[..., 1] = np.arange(views)
    return TrainingSet(features, np.arange(images), images, None)


def test_an_epoch_shows_each_image_of_each_run_once() -> None:
    trains = [numbered(10), numbered(11)]
    batches = list(minibatches(trains, rngs(0, 1), epochs=3, batch_size=4))
    assert len(batches) == 9
    for run, train in enumerate(trains):
        for epoch in range(3):
            shown = [
                image
                for batch in batches[3 * epoch : 3 * epoch + 3]
                for image, weight in zip(batch.x[run, :, 0], batch.weights[run], strict=True)
                if weight > 0
            ]
            assert sorted(map(int, shown)) == list(range(len(train.labels)))


def test_minibatches_are_of_about_equal_size_and_labels_and_weights_fit() -> None:
    for batch in minibatches([numbered(10), numbered(11)], rngs(0, 1), epochs=2, batch_size=4):
        assert set((batch.weights > 0).sum(dim=1).tolist()) <= {3, 4}
        torch.testing.assert_close(batch.weights.sum(dim=1), torch.ones(2))
        real = batch.weights > 0
        assert (batch.x[..., 0][real] == batch.labels[real]).all()
        assert (batch.x[~real] == 0).all()


def test_every_view_has_its_turn() -> None:
    seen = [
        batch.x[0, :, 1] for batch in minibatches([numbered(6)], rngs(0), epochs=8, batch_size=6)
    ]
    assert torch.stack(seen).unique().tolist() == [0, 1, 2]
    assert all(one.unique().numel() > 1 for one in seen)


def test_what_a_run_sees_does_not_depend_on_its_company() -> None:
    together = minibatches([numbered(10), numbered(11)], rngs(5, 6), epochs=2, batch_size=4)
    alone = minibatches([numbered(10)], rngs(5), epochs=2, batch_size=4)
    for both, one in zip(together, alone, strict=True):
        size = one.x.shape[1]
        torch.testing.assert_close(both.x[:1, :size], one.x, rtol=0, atol=0)
        torch.testing.assert_close(both.weights[:1, :size], one.weights, rtol=0, atol=0)


def test_cross_entropy_is_the_sum_over_runs_of_the_mean_over_images() -> None:
    train = made_up()
    batch = gather([train, train], [np.arange(4), np.arange(7)], rngs(0, 1))
    logits = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    parts = [
        torch.nn.functional.cross_entropy(logits[run, :size], torch.tensor(train.labels[:size]))
        for run, size in enumerate((4, 7))
    ]
    torch.testing.assert_close(cross_entropy(logits, batch), sum(parts))


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_descent_is_that_of_torch_for_each_run_alone(kind: str) -> None:
    starts = drawn(rngs(1, 2), 2, 3)

    def optimiser(weight: torch.Tensor) -> torch.optim.Optimizer:
        if kind == "adamw":
            return torch.optim.AdamW([weight], lr=0.1, weight_decay=0.3, fused=True)
        return torch.optim.SGD([weight], lr=0.1, momentum=0.9)

    def train(start: torch.Tensor, batches: list[Minibatch]) -> torch.Tensor:
        weight = start.clone().requires_grad_()
        descend(
            optimiser(weight),
            batches,
            lambda batch: cross_entropy(batch.x @ weight, batch),
            steps=len(batches),
        )
        return weight.detach()

    sets = [numbered(3), numbered(3)]
    together = list(minibatches(sets, rngs(5, 6), epochs=4, batch_size=3))
    found = train(starts, together)
    for run in range(2):
        own = [
            Minibatch(*(part[run : run + 1] for part in (b.x, b.labels, b.weights)))
            for b in together
        ]
        torch.testing.assert_close(found[run : run + 1], train(starts[run : run + 1], own))
    assert not torch.allclose(found[0], found[1])


def test_the_learning_rate_falls_along_a_cosine() -> None:
    weight = torch.zeros(1, 1, 1, requires_grad=True)
    optimiser = torch.optim.SGD([weight], lr=1.0)
    seen = []

    def loss(batch: Minibatch) -> torch.Tensor:
        seen.append(optimiser.param_groups[0]["lr"])
        return weight.sum()

    batches = list(minibatches([numbered(4)], rngs(0), epochs=1, batch_size=1))
    descend(optimiser, batches, loss, steps=4)
    np.testing.assert_allclose(seen, (1 + np.cos(np.pi * np.arange(4) / 4)) / 2)


def test_training_that_diverges_is_refused() -> None:
    weight = torch.zeros(1, 1, requires_grad=True)
    batches = list(minibatches([numbered(4)], rngs(0), epochs=1, batch_size=4))
    with pytest.raises(DataError, match=r"diverged.*learning_rate below 0\.5"):
        descend(
            torch.optim.SGD([weight], lr=0.5),
            batches,
            lambda batch: (weight * float("inf")).sum(),
            steps=1,
        )


def test_groups_are_of_equals_and_results_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    trains = [numbered(size) for size in (4, 5, 4, 4, 5, 4)]
    calls = []

    def train(some: list[TrainingSet], own: list[np.random.Generator]) -> list[float]:
        calls.append([len(one.labels) for one in some])
        return [len(one.labels) + rng.random() for one, rng in zip(some, own, strict=True)]

    whole = in_groups(trains, rngs(*range(6)), train=train)
    assert calls == [[4, 4, 4, 4], [5, 5]]
    calls.clear()
    monkeypatch.setattr(many, "MOST_BYTES", 3 * trains[0].features.nbytes)
    assert in_groups(trains, rngs(*range(6)), train=train) == whole
    assert calls == [[4, 4, 4], [4], [5, 5]]


def test_draws_are_each_runs_own_and_uniform() -> None:
    both = drawn(rngs(1, 2), 50, 40)
    torch.testing.assert_close(both[1:], drawn(rngs(2), 50, 40), rtol=0, atol=0)
    assert abs(float(both.mean())) < 0.05
    assert float(both.abs().max()) <= 1
    assert float(both.std()) == pytest.approx(3**-0.5, abs=0.02)


@pytest.mark.parametrize(("images", "epochs"), [(3, 100), (8, 50), (9, 34), (80, 20)])
def test_a_small_subset_is_shown_more_often(images: int, epochs: int) -> None:
    train = numbered(images)
    config = MlpConfig(epochs=20, least_steps=100, batch_size=4)
    assert all_steps(train, config=config) == epochs * -(-images // 4)
