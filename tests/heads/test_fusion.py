import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from medfocus_pipeline.config import FusionConfig, LinearConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.fusion import FittedFusion, FusionHead
from medfocus_pipeline.heads.fusion_mix import VARIANTS
from medfocus_pipeline.heads.linear import LinearHead
from medfocus_pipeline.heads.protocol import FittedHead, ManyHead, TrainingSet
from medfocus_pipeline.heads.table import make_head
from tests.heads.sets import dual_encoder, made_up, take

CLASSIFIER = LinearConfig(c_grid=(10.0,))
SMALL = FusionConfig(width=8, epochs=3, loss_mix=0.5, classifier=CLASSIFIER)
CHOOSING = SMALL.model_copy(update={"loss_mix": None, "loss_mix_grid": (0.2, 0.8)})

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def fit(train: TrainingSet, config: FusionConfig = SMALL, *, seed: int = 0) -> FittedFusion:
    return FusionHead(config).fit(train, rng(seed))


def accuracy(fitted: FittedHead, test: TrainingSet) -> float:
    return float((fitted.predict_proba(test.features).argmax(axis=1) == test.labels).mean())


@every_variant
def test_fusion_that_has_not_learned_is_logistic_regression_on_the_image(variant: str) -> None:
    train = made_up()
    config = SMALL.model_copy(update={"learning_rate": 1e-12, "variant": variant})
    np.testing.assert_allclose(
        fit(train, config).predict_proba(train.features),
        LinearHead(CLASSIFIER).fit(train, rng()).predict_proba(train.features),
        atol=1e-4,
    )


def test_fusion_learns_from_the_class_texts_what_a_few_labels_do_not_tell() -> None:
    config = FusionConfig(width=32, classifier=CLASSIFIER)
    test = dual_encoder(images=400, seed=99)
    trains, rngs = [dual_encoder(images=24, seed=seed) for seed in range(3)], [rng()] * 3
    gains = [
        accuracy(fused, test) - accuracy(LinearHead(CLASSIFIER).fit(train, rng()), test)
        for train, fused in zip(trains, FusionHead(config).fit_many(trains, rngs), strict=True)
    ]
    assert np.mean(gains) > 0.1


@every_variant
@pytest.mark.parametrize("with_text", [True, False], ids=["texts", "learned"])
def test_features_that_tell_the_class_are_learned_fully(variant: str, with_text: bool) -> None:
    labels = np.arange(24) % 3
    features = np.eye(3, 6, dtype=np.float32)[labels][:, None].repeat(2, axis=1)
    text = np.eye(3, 6, dtype=np.float32) if with_text else None
    train = TrainingSet(features, labels, 3, text)
    config = CHOOSING.model_copy(update={"variant": variant})
    assert accuracy(fit(train, config), train) == 1


def test_labels_without_a_meaning_give_chance() -> None:
    test = dual_encoder(images=400, seed=99)
    trains = [dual_encoder(images=40, seed=seed) for seed in range(4)]
    shuffled = [replace(train, labels=rng(1).permutation(train.labels)) for train in trains]
    fits = FusionHead(CHOOSING).fit_many(shuffled, [rng(seed) for seed in range(4)])
    assert np.mean([accuracy(fitted, test) for fitted in fits]) == pytest.approx(1 / 4, abs=0.12)


@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
def test_any_lambda_trains(mix: float) -> None:
    train = dual_encoder(images=24, seed=0)
    fitted = fit(train, SMALL.model_copy(update={"loss_mix": mix}))
    probabilities = fitted.predict_proba(train.features)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert np.abs(fitted.fusion.weights["strength"]).max() > 0
    assert fitted.chosen["lambda"] == mix


@every_variant
def test_prediction_does_not_depend_on_the_other_test_images(variant: str) -> None:
    """So F can see no label of a test image, of which `predict_proba` gets none."""
    train = dual_encoder(images=24, seed=0)
    fitted = fit(train, SMALL.model_copy(update={"variant": variant}))
    whole = fitted.predict_proba(train.features)
    np.testing.assert_allclose(fitted.predict_proba(train.features[5:6]), whole[5:6], atol=1e-6)
    order = rng().permutation(len(train.labels))
    mixed = fitted.predict_proba(train.features[order])
    np.testing.assert_allclose(mixed, whole[order], atol=1e-6)


@every_variant
def test_runs_side_by_side_are_the_runs_alone(variant: str) -> None:
    config = CHOOSING.model_copy(update={"variant": variant, "epochs": 10})
    trains = [dual_encoder(images=images, seed=images) for images in (24, 31, 35)]
    together = FusionHead(config).fit_many(trains, [rng(seed) for seed in range(3)])
    for seed, (train, beside) in enumerate(zip(trains, together, strict=True)):
        alone = fit(train, config, seed=seed)
        assert alone.chosen == beside.chosen
        np.testing.assert_allclose(
            beside.predict_proba(train.features), alone.predict_proba(train.features), atol=1e-4
        )


def test_company_changes_no_byte_where_the_width_fills_vectors() -> None:
    config = CHOOSING.model_copy(update={"width": 32})
    trains = [dual_encoder(images=24, seed=seed) for seed in range(3)]
    together = FusionHead(config).fit_many(trains, [rng(seed) for seed in range(3)])
    for seed, (train, beside) in enumerate(zip(trains, together, strict=True)):
        alone = fit(train, config, seed=seed).predict_proba(train.features)
        assert beside.predict_proba(train.features).tobytes() == alone.tobytes()


def test_the_head_trains_many_runs() -> None:
    assert isinstance(FusionHead(SMALL), ManyHead)
    assert make_head(SMALL) == FusionHead(SMALL)


def test_texts_of_the_encoder_are_not_trained_and_learned_ones_are() -> None:
    train = dual_encoder(images=24, seed=0)
    still = SMALL.model_copy(update={"learning_rate": 1e-12})
    for trains_text, one in ((False, train), (True, replace(train, text=None))):
        moved = fit(one).fusion.weights["texts"] - fit(one, still).fusion.weights["texts"]
        assert (np.abs(moved).max() > 1e-3) == trains_text
        assert fit(one).chosen["text"] == ("learned" if trains_text else "encoder")


def test_c_is_chosen_before_fusion_sees_a_label() -> None:
    train = made_up(images=45)
    config = SMALL.model_copy(update={"classifier": LinearConfig()})
    linear = LinearHead(config.classifier).fit(train, rng(5))
    assert fit(train, config, seed=5).chosen["C"] == linear.chosen["C"]


def test_a_fit_is_a_function_of_training_set_and_generator() -> None:
    train = dual_encoder(images=24, seed=0)
    torch.manual_seed(1)
    one = fit(train, CHOOSING, seed=3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    two, other = fit(train, CHOOSING, seed=3), fit(train, CHOOSING, seed=4)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is not touched"
    same = one.predict_proba(train.features).tobytes()
    assert two.predict_proba(train.features).tobytes() == same
    assert other.predict_proba(train.features).tobytes() != same


def test_a_fit_leaks_no_warning_on_features_that_cannot_be_written() -> None:
    train = dual_encoder(images=24, seed=0)
    assert train.text is not None
    train.features.setflags(write=False)
    train.text.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(train, CHOOSING).predict_proba(train.features)


def test_one_image_a_class_is_enough_for_the_default_lambda() -> None:
    train = made_up(images=3)
    fitted = fit(train, CHOOSING.model_copy(update={"default_loss_mix": 0.6}))
    np.testing.assert_allclose(fitted.predict_proba(train.features).sum(axis=1), 1)
    assert fitted.chosen["lambda"] == 0.6


@pytest.mark.parametrize("with_text", [True, False])
def test_an_absent_class_has_probability_zero(with_text: bool) -> None:
    train = dual_encoder(images=24, seed=0)
    rest = take(train, np.flatnonzero(train.labels != 2))
    rest = rest if with_text else replace(rest, text=None)
    probabilities = fit(rest, CHOOSING).predict_proba(train.features)
    assert (probabilities[:, 2] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_features_that_say_nothing_are_survived(value: float) -> None:
    labels = np.arange(12) % 3
    train = TrainingSet(np.full((12, 2, 6), value, np.float32), labels, 3, None)
    probabilities = fit(train, CHOOSING).predict_proba(train.features)
    np.testing.assert_allclose(probabilities, 1 / 3, atol=1e-3)


def test_one_class_is_refused() -> None:
    train = made_up()
    with pytest.raises(DataError, match="two classes or more"):
        fit(take(train, np.flatnonzero(train.labels == 0)))


def test_a_training_that_diverges_is_reported() -> None:
    config = SMALL.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(DataError, match="learning_rate below 1e\\+30"):
        fit(made_up(), config)
