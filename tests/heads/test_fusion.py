import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medfocus_pipeline.config import FusionConfig, LinearConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads import make_head
from medfocus_pipeline.heads.fusion import (
    FittedFusion,
    FusionHead,
    align,
    class_vectors,
    contrast,
    fuse,
    initial,
    loss,
    shared_basis,
)
from medfocus_pipeline.heads.linear import LinearHead
from medfocus_pipeline.heads.protocol import TrainingSet
from tests.heads.sets import accuracy, dual_encoder, made_up, take

CLASSIFIER = LinearConfig(c_grid=(10.0,))
SMALL = FusionConfig(width=8, epochs=3, classifier=CLASSIFIER)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def fit(train: TrainingSet, config: FusionConfig = SMALL, *, seed: int = 0) -> FittedFusion:
    return FusionHead(config).fit(train, rng(seed))


def start(train: TrainingSet, *, width: int = 8) -> dict[str, torch.Tensor]:
    images = torch.tensor(train.features.reshape(-1, train.features.shape[2]))
    return initial(train, images, width=width, generator=torch.Generator().manual_seed(0))


def arrays(weights: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in weights.items()}


@pytest.mark.parametrize("train", [made_up(), dual_encoder(images=20, seed=0)])
def test_fusion_begins_as_the_identity(train: TrainingSet) -> None:
    fused = fuse(arrays(start(train)), train.features, temperature=0.07)
    assert fused.shape == train.features.shape
    assert fused.dtype == np.float32
    np.testing.assert_allclose(fused, train.features, atol=1e-6)


def test_fusion_that_has_not_learned_is_logistic_regression_on_the_image() -> None:
    train = made_up()
    config = SMALL.model_copy(update={"learning_rate": 1e-12})
    np.testing.assert_allclose(
        fit(train, config).predict_proba(train.features),
        LinearHead(CLASSIFIER).fit(train, rng()).predict_proba(train.features),
        atol=1e-4,
    )


def test_attention_begins_as_the_zero_shot_classifier() -> None:
    train = dual_encoder(images=40, seed=0)
    weights = start(train)
    query, key = align(weights, torch.tensor(train.features[:, 0]) @ weights["basis"])
    images = train.features[:, 0] - train.features.mean(axis=(0, 1))
    texts = train.text - train.text.mean(axis=0)
    cosine = images @ texts.T / np.linalg.norm(texts, axis=1)
    ranks = np.argsort((query @ key.T).numpy(), axis=1)
    assert (ranks == np.argsort(cosine, axis=1)).all()


def test_fusion_learns_from_the_class_texts_what_a_few_labels_do_not_tell() -> None:
    config = FusionConfig(width=32, classifier=CLASSIFIER)
    test = dual_encoder(images=400, seed=99)
    gains = []
    for seed in range(3):
        train = dual_encoder(images=24, seed=seed)
        fused = fit(train, config).predict_proba(test.features)
        plain = LinearHead(CLASSIFIER).fit(train, rng()).predict_proba(test.features)
        gains.append(accuracy(fused, test.labels) - accuracy(plain, test.labels))
    assert np.mean(gains) > 0.1


@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
def test_any_lambda_trains(mix: float) -> None:
    train = dual_encoder(images=24, seed=0)
    fitted = fit(train, SMALL.model_copy(update={"loss_mix": mix}))
    probabilities = fitted.predict_proba(train.features)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert np.abs(fitted.weights["strength"]).max() > 0


@pytest.mark.parametrize("mix", [0.0, 1.0])
def test_lambda_weighs_the_two_losses(mix: float) -> None:
    train = dual_encoder(images=24, seed=0)
    weights = start(train)
    images = torch.tensor(train.features[:, 0])
    x, labels = images @ weights["basis"], torch.tensor(train.labels)
    query, key = align(weights, x)
    expected = contrast(query @ key.T / 0.07, labels) if mix else torch.tensor(math.log(4))
    config = FusionConfig(loss_mix=mix, temperature=0.07)
    found = loss(weights, x, images.norm(dim=1), labels, config=config)
    torch.testing.assert_close(found, expected)


def test_the_loss_reads_the_m_that_is_fused() -> None:
    train = dual_encoder(images=24, seed=0)
    weights = start(train)
    weights["strength"] += 0.5
    weights["head"] += torch.randn(weights["head"].shape, generator=torch.Generator())
    images, labels = torch.tensor(train.features[:, 0]), torch.tensor(train.labels)
    fused = torch.tensor(fuse(arrays(weights), train.features[:, :1], temperature=0.07)[:, 0])
    logits = fused @ weights["basis"] @ weights["head"]
    found = loss(
        weights,
        images @ weights["basis"],
        images.norm(dim=1),
        labels,
        config=FusionConfig(loss_mix=0.0, temperature=0.07),
    )
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(logits, labels))


def test_m_keeps_the_length_of_the_image() -> None:
    train = dual_encoder(images=24, seed=0)
    joined = TrainingSet(
        np.concatenate([train.features, train.features[:, ::-1]], axis=2),
        train.labels,
        4,
        train.text,
    )
    fitted = fit(joined)
    fused = fuse(fitted.weights, joined.features, temperature=0.07)
    np.testing.assert_allclose(np.linalg.norm(fused, axis=2), math.sqrt(2), rtol=1e-5)
    assert np.abs(fused - joined.features).max() > 1e-3


def test_prediction_does_not_depend_on_the_other_test_images() -> None:
    train = dual_encoder(images=24, seed=0)
    fitted = fit(train)
    whole = fitted.predict_proba(train.features)
    np.testing.assert_allclose(fitted.predict_proba(train.features[5:6]), whole[5:6], atol=1e-6)


def test_texts_of_the_encoder_are_not_trained_and_learned_ones_are() -> None:
    train = dual_encoder(images=24, seed=0)
    learned = TrainingSet(train.features, train.labels, 4, None)
    given_texts, own = fit(train), fit(learned)
    assert given_texts.chosen == {"C": 10.0, "text": "encoder"}
    assert own.chosen == {"C": 10.0, "text": "learned"}

    def moved(fitted: FittedFusion, texts: np.ndarray) -> float:
        centred = (texts - texts.mean(axis=0)) @ fitted.weights["basis"]
        return float(np.abs(fitted.weights["texts"] - centred).max())

    assert moved(given_texts, class_vectors(train)) < 1e-6
    assert moved(own, class_vectors(learned)) > 1e-3


def test_c_is_chosen_before_fusion_sees_a_label() -> None:
    train = made_up(images=45)
    config = FusionConfig(width=8, epochs=3)
    linear = LinearHead(config.classifier).fit(train, rng(5))
    assert fit(train, config, seed=5).chosen["C"] == linear.chosen["C"]


def test_a_fit_is_a_function_of_training_set_and_generator() -> None:
    train = dual_encoder(images=24, seed=0)
    torch.manual_seed(1)
    one = fit(train, seed=3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    two, other = fit(train, seed=3), fit(train, seed=4)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is not touched"
    same = one.predict_proba(train.features).tobytes()
    assert two.predict_proba(train.features).tobytes() == same
    assert other.predict_proba(train.features).tobytes() != same


def test_a_fit_leaks_no_warning_on_features_that_cannot_be_written() -> None:
    train = dual_encoder(images=24, seed=0)
    train.features.setflags(write=False)
    train.text.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(train).predict_proba(train.features)


def test_one_image_a_class_is_enough() -> None:
    probabilities = fit(made_up(images=3)).predict_proba(made_up(images=3).features)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("with_text", [True, False])
def test_an_absent_class_has_probability_zero(with_text: bool) -> None:
    train = dual_encoder(images=24, seed=0)
    rest = take(train, np.flatnonzero(train.labels != 2))
    if not with_text:
        rest = TrainingSet(rest.features, rest.labels, 4, None)
    probabilities = fit(rest).predict_proba(train.features)
    assert (probabilities[:, 2] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_features_that_say_nothing_are_survived(value: float) -> None:
    labels = np.arange(12) % 3
    train = TrainingSet(np.full((12, 2, 6), value, np.float32), labels, 3, None)
    np.testing.assert_allclose(fit(train).predict_proba(train.features), 1 / 3, atol=1e-3)


def test_one_class_is_refused() -> None:
    train = made_up()
    with pytest.raises(DataError, match="two classes or more"):
        fit(take(train, np.flatnonzero(train.labels == 0)))


def test_texts_of_another_encoder_are_refused() -> None:
    train = made_up(dim=12)
    odd = TrainingSet(train.features, train.labels, 3, np.eye(3, 5, dtype=np.float32))
    with pytest.raises(DataError, match="12 dimensions and class texts 5, expected a multiple"):
        fit(odd)


def test_make_head_gives_the_head_of_its_configuration() -> None:
    assert make_head(SMALL) == FusionHead(SMALL)


@settings(max_examples=20)
@given(
    width=st.integers(1, 20),
    dim=st.integers(2, 20),
    rows=st.integers(1, 12),
    seed=st.integers(0, 9),
)
def test_the_shared_basis_is_orthonormal(width: int, dim: int, rows: int, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    texts = torch.randn((3, dim), generator=source)
    images = torch.randn((rows, dim), generator=source)
    basis = shared_basis(texts, images, width=width, generator=source)
    assert basis.shape == (dim, min(width, dim))
    torch.testing.assert_close(basis.T @ basis, torch.eye(min(width, dim)), atol=1e-5, rtol=0)
    if width >= 3:
        torch.testing.assert_close(texts @ basis @ basis.T, texts, atol=1e-4, rtol=0)


def test_the_shared_basis_holds_where_the_images_vary_most() -> None:
    source = torch.Generator().manual_seed(0)
    strong = torch.randn((50, 4), generator=source) @ torch.randn((4, 30), generator=source)
    images = 10 * strong + 0.01 * torch.randn((50, 30), generator=source)
    basis = shared_basis(torch.eye(2, 30), images, width=8, generator=source)
    rest = images - images @ basis @ basis.T
    assert rest.norm() < 1e-3 * images.norm()


def test_contrast_of_several_images_to_a_text_is_the_one_computed_by_hand() -> None:
    similarity = torch.tensor([[2.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    labels = torch.tensor([0, 0, 1])
    to_text = [math.log(math.exp(2) + 1 + math.e) - 2, math.log(math.e + 2) - 1]
    to_text.append(math.log(math.exp(3) + 2) - 3)
    first = math.log(math.exp(2) + math.e + 1)
    to_images = [((first - 2) + (first - 1)) / 2, math.log(2 + math.exp(3)) - 3]
    expected = (np.mean(to_text) + np.mean(to_images)) / 2
    assert contrast(similarity, labels).item() == pytest.approx(expected, rel=1e-5)
