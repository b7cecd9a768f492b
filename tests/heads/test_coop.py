"""CoOp against its formulas, with transformers' own text tower as the reference."""

import math
import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from medfocus_pipeline.config import CoOpConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.coop import CoOpHead, FittedCoOp, initial
from medfocus_pipeline.heads.prompt_learning import class_names, epochs_of, learning_rate
from medfocus_pipeline.heads.protocol import ManyHead, TrainingSet
from medfocus_pipeline.heads.table import make_head
from tests.heads.prompt_sets import (
    BARE,
    DIM,
    PHRASES,
    class_texts,
    separable,
    temperature,
    tiny_source,
    with_prompts,
)
from tests.heads.sets import accuracy, made_up, take

SMALL = CoOpConfig(context=3, epochs=(2, 2, 2))
QUICK = CoOpConfig(context=4, epochs=(60, 60, 60), learning_rate=0.02)


def fit(train: TrainingSet, config: CoOpConfig = SMALL, *, seed: int = 0) -> FittedCoOp:
    return CoOpHead(config).fit(train, np.random.default_rng(seed))


def drawn(config: CoOpConfig, *, seed: int = 0) -> torch.Tensor:
    return initial(tiny_source().open(), config=config, rng=np.random.default_rng(seed))


def closed_form(context: torch.Tensor, features: np.ndarray) -> torch.Tensor:
    """Logits of ``(n, m * d)`` features: cosine with the text, repeated, over temperature."""
    images = torch.tensor(features)
    texts = class_texts(context).repeat(1, images.shape[1] // DIM)
    return torch.cosine_similarity(images[:, None], texts[None], dim=2) / temperature()


@pytest.mark.parametrize("parts", [1, 2])
def test_probabilities_are_the_formulas_mean_over_views(parts: int) -> None:
    train = separable(parts=parts, noise=0.3)
    fitted = fit(train)
    logits = [closed_form(torch.tensor(fitted.context), train.features[:, v]) for v in range(2)]
    expected = torch.stack(logits).softmax(dim=2).mean(dim=0)
    found = fitted.predict_proba(train.features)
    assert found.shape == (12, 3)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("parts", [1, 2])
def test_steps_are_those_of_sgd_on_the_formula(parts: int) -> None:
    train = separable(views=1, noise=0.3, parts=parts)
    config = SMALL.model_copy(update={"epochs": (3, 3, 3), "weight_decay": 0.01})
    context = drawn(config).requires_grad_()
    speed = torch.zeros_like(context)
    # The first epoch warms up, the cosine counts from the second.
    for rate in (1e-5, 0.002, 0.002 * (1 + math.cos(math.pi / 3)) / 2):
        loss = cross_entropy(closed_form(context, train.features[:, 0]), torch.tensor(train.labels))
        slope = torch.autograd.grad(loss, context)[0] + 0.01 * context.detach()
        speed = 0.9 * speed + slope
        context = (context.detach() - rate * speed).requires_grad_()
    found = fit(train, config).context
    moved = float((context.detach() - drawn(config)).abs().max())
    np.testing.assert_allclose(found, context.detach(), atol=1e-3 * moved)


def test_only_the_context_learns() -> None:
    tower = tiny_source().open()
    before = [tower.vocabulary.clone(), tower.projection.clone(), tower.layers[0].out[0].clone()]
    fitted = fit(separable(), QUICK)
    assert np.abs(fitted.context - drawn(QUICK).numpy()).max() > 0.01
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
        for fitted in CoOpHead(QUICK).fit_many(shuffled, rngs)
    ]
    assert np.mean(scores) == pytest.approx(1 / 3, abs=0.12)


def test_runs_side_by_side_are_what_they_are_alone() -> None:
    sets = [separable(images=n, seed=n, noise=0.3) for n in (12, 9, 12, 36)]
    config = CoOpConfig(context=3, batch_size=8, epochs=(5, 6, 7), learning_rate=0.05)
    rngs = [np.random.default_rng(seed) for seed in range(4)]
    together = CoOpHead(config).fit_many(sets, rngs)
    for seed, (train, one) in enumerate(zip(sets, together, strict=True)):
        alone = fit(train, config, seed=seed)
        assert alone.chosen == one.chosen
        np.testing.assert_allclose(alone.context, one.context, atol=1e-4)
        np.testing.assert_allclose(
            alone.predict_proba(train.features), one.predict_proba(train.features), atol=1e-4
        )
    assert [one.chosen["epochs"] for one in together] == [6, 6, 6, 7]


def test_a_fit_is_a_function_of_training_set_and_generator() -> None:
    train = separable()
    torch.manual_seed(1)
    one = fit(train, seed=0)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    two, other = fit(train, seed=0), fit(train, seed=1)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is not touched"
    assert one.context.tobytes() == two.context.tobytes()
    assert one.context.tobytes() != other.context.tobytes()


def test_a_context_of_words_has_their_tokens() -> None:
    config = CoOpConfig(initial="a photo of the", epochs=(1, 1, 1), warmup_rate=1e-12)
    words = tiny_source().open().words("a photo of the")
    assert len(words) == 4
    np.testing.assert_allclose(fit(separable(), config).context, words, atol=1e-9)


def test_a_drawn_context_has_the_published_spread() -> None:
    context = drawn(CoOpConfig(context=512)).numpy()
    assert context.shape == (512, 32)
    assert context.std() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize(
    ("images", "epochs"),
    [(3, 50), (4, 50), (5, 100), (12, 100), (18, 100), (19, 200), (24, 200), (600, 200)],
)
def test_epochs_are_those_of_the_nearest_number_of_shots(images: int, epochs: int) -> None:
    assert epochs_of(made_up(images=images, classes=3), config=CoOpConfig()) == epochs


def test_the_learning_rate_warms_up_and_falls() -> None:
    rates = [learning_rate(epoch, epochs=50, config=CoOpConfig()) for epoch in range(50)]
    assert rates[:2] == [1e-5, 0.002]
    assert all(later < earlier for earlier, later in pairwise(rates[1:]))
    assert rates[26] == pytest.approx(0.001)


def test_the_context_stands_in_the_articles_place() -> None:
    assert class_names(PHRASES) == list(BARE)
    assert class_names(["An ulcer", "theatre", "a healthy brain without a tumor"]) == [
        *("ulcer.", "theatre.", "healthy brain without a tumor.")
    ]


def test_an_encoder_without_text_tower_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="The head coop needs a dual encoder"):
        fit(made_up())


def test_features_of_another_encoder_are_refused() -> None:
    odd = with_prompts(np.ones((4, 1, DIM + 1)), [0, 1, 2, 0])
    with pytest.raises(DataError, match="25 dimensions and class texts 24, expected a multiple"):
        fit(odd)


def test_sets_of_other_classes_are_refused() -> None:
    with pytest.raises(DataError, match="of 3 classes and one encoder"):
        fit(replace(separable(), n_classes=4))


def test_one_class_is_refused() -> None:
    train = separable()
    alone = replace(take(train, np.flatnonzero(train.labels == 0)), prompts=train.prompts)
    with pytest.raises(DataError, match="two classes or more"):
        fit(alone)


def test_training_that_diverges_says_so() -> None:
    config = QUICK.model_copy(update={"learning_rate": 1e30, "warmup_rate": 1e30})
    with pytest.raises(DataError, match="The training of coop diverged"):
        fit(separable(), config)


def test_an_all_zero_feature_is_survived() -> None:
    train = separable()
    train.features[3] = 0
    fitted = fit(train)
    assert np.isfinite(fitted.context).all()
    np.testing.assert_allclose(fitted.predict_proba(train.features)[3], 1 / 3)


def test_features_that_cannot_be_written_are_taken() -> None:
    train = separable()
    train.features.setflags(write=False)
    fit(train).predict_proba(train.features)


def test_a_fitted_head_travels_without_the_tower() -> None:
    train = separable()
    fitted = fit(train)
    sent = pickle.dumps(fitted)
    assert len(sent) < 10_000
    np.testing.assert_array_equal(
        pickle.loads(sent).predict_proba(train.features), fitted.predict_proba(train.features)
    )


def test_it_is_a_head_of_the_table_that_trains_many() -> None:
    head = make_head(SMALL)
    assert head == CoOpHead(SMALL)
    assert isinstance(head, ManyHead)
