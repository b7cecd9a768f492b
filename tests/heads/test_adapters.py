"""What every head that reads class texts, or trains side by side, has in common."""

from dataclasses import replace

import numpy as np
import pytest

from medfocus_pipeline.config import (
    ClipAdapterConfig,
    ContrastiveConfig,
    LpPlusPlusConfig,
    MlpConfig,
    SupConConfig,
    TipAdapterConfig,
    TipAdapterFConfig,
    ZeroShotConfig,
)
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.clip_adapter import ClipAdapterHead
from medfocus_pipeline.heads.contrastive import ContrastiveHead
from medfocus_pipeline.heads.lp_plus_plus import LpPlusPlusHead
from medfocus_pipeline.heads.mlp import MlpHead
from medfocus_pipeline.heads.protocol import Head, ManyHead
from medfocus_pipeline.heads.tip_adapter import TipAdapterFHead, TipAdapterHead
from medfocus_pipeline.heads.zeroshot import ZeroShotHead
from tests.heads.sets import accuracy, clip_like, made_up, separable, take

GRID = {"alphas": (0.1, 1.0, 10.0), "betas": (1.0, 5.5)}
NETWORK = MlpConfig(widths=(16, 8), batch_size=16, epochs=20, least_steps=60, learning_rate=0.01)
HEADS: dict[str, Head] = {
    "zeroshot": ZeroShotHead(ZeroShotConfig()),
    "tip_adapter": TipAdapterHead(TipAdapterConfig(**GRID)),
    "tip_adapter_f": TipAdapterFHead(TipAdapterFConfig(batch_size=16, epochs=10, **GRID)),
    "clip_adapter": ClipAdapterHead(
        ClipAdapterConfig(batch_size=16, epochs=(30, 30, 30), learning_rate=0.1, ratio=0.5)
    ),
    "lp_plus_plus": LpPlusPlusHead(LpPlusPlusConfig(iterations=60)),
    "mlp": MlpHead(NETWORK),
    "contrastive": ContrastiveHead(ContrastiveConfig(network=NETWORK, width=8)),
    "supcon": ContrastiveHead(SupConConfig(network=NETWORK, width=8)),
}
LEARNING = {name: head for name, head in HEADS.items() if name != "zeroshot"}
MANY = {name: head for name, head in HEADS.items() if isinstance(head, ManyHead)}
IMAGES_ALONE = ("mlp", "contrastive", "supcon")
READS_TEXT = {name: head for name, head in HEADS.items() if name not in IMAGES_ALONE}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", HEADS)
def test_separable_classes_are_told_apart(name: str) -> None:
    fitted = HEADS[name].fit(separable(), rng())
    test = separable(images=60, seed=1)
    assert accuracy(fitted.predict_proba(test.features), test.labels) == 1


@pytest.mark.parametrize("name", HEADS)
def test_labels_that_mean_nothing_give_chance(name: str) -> None:
    test = separable(images=300, seed=9)
    found = []
    for seed in range(4):
        train = separable(images=45, seed=seed)
        shuffled = replace(train, labels=rng(seed).permutation(train.labels))
        truth = rng(seed + 100).permutation(test.labels)
        fitted = HEADS[name].fit(shuffled, rng())
        found.append(accuracy(fitted.predict_proba(test.features), truth))
    assert abs(np.mean(found) - 1 / 3) < 0.06


@pytest.mark.parametrize("name", HEADS)
def test_probabilities_are_the_mean_over_views(name: str) -> None:
    train = clip_like(images=24, seed=0)
    fitted = HEADS[name].fit(train, rng())
    whole = fitted.predict_proba(train.features)
    assert whole.shape == (24, 4)
    assert whole.dtype == np.float64
    np.testing.assert_allclose(whole.sum(axis=1), 1)
    single = [fitted.predict_proba(train.features[:, [view]]) for view in range(2)]
    np.testing.assert_allclose(whole, np.mean(single, axis=0), atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_a_fit_is_a_function_of_training_set_and_generator(name: str) -> None:
    train = clip_like(images=24, seed=0)
    train.features.setflags(write=False)
    one, two = (HEADS[name].fit(train, rng(3)) for _ in range(2))
    assert one.chosen == two.chosen
    found = [fitted.predict_proba(train.features).tobytes() for fitted in (one, two)]
    assert found[0] == found[1]


@pytest.mark.parametrize("name", HEADS)
def test_an_absent_class_is_no_obstacle(name: str) -> None:
    train = separable(images=30)
    rest = take(train, np.flatnonzero(train.labels != 1))
    test = separable(images=60, seed=1)
    found = HEADS[name].fit(rest, rng()).predict_proba(test.features)
    assert found.shape == (60, 3)
    seen = test.labels != 1
    assert accuracy(found[seen], test.labels[seen]) == 1


@pytest.mark.parametrize("name", HEADS)
def test_one_image_a_class_is_enough(name: str) -> None:
    train = separable(images=3)
    fitted = HEADS[name].fit(train, rng())
    assert accuracy(fitted.predict_proba(train.features), train.labels) == 1


@pytest.mark.parametrize("name", LEARNING)
def test_one_class_is_refused(name: str) -> None:
    train = take(separable(), np.flatnonzero(separable().labels == 2))
    with pytest.raises(DataError, match=r"8 images of 1 class"):
        LEARNING[name].fit(train, rng())


@pytest.mark.parametrize("name", READS_TEXT)
def test_a_head_of_texts_says_by_name_that_it_needs_a_dual_encoder(name: str) -> None:
    with pytest.raises(DataError, match=rf"Head {name} needs a dual encoder .*lite-clip"):
        READS_TEXT[name].fit(made_up(), rng())


@pytest.mark.parametrize("name", READS_TEXT)
def test_joined_focus_modes_meet_the_texts_in_each_part(name: str) -> None:
    train, test = separable(), separable(images=60, seed=1)
    joined, other = (
        replace(one, features=np.concatenate([one.features, one.features[:, ::-1]], axis=2))
        for one in (train, test)
    )
    fitted = READS_TEXT[name].fit(joined, rng())
    assert accuracy(fitted.predict_proba(other.features), test.labels) == 1


def test_heads_that_train_train_side_by_side() -> None:
    assert sorted(MANY) == [
        *("clip_adapter", "contrastive", "lp_plus_plus", "mlp", "supcon", "tip_adapter_f")
    ]


@pytest.mark.parametrize("name", MANY)
def test_runs_side_by_side_are_as_alone(name: str) -> None:
    trains = [clip_like(images=images, seed=images) for images in (24, 25, 24, 40, 3)]
    trains[4] = take(clip_like(images=8, seed=7), np.arange(3))
    test = clip_like(images=50, seed=99).features
    together = MANY[name].fit_many(trains, [rng(seed) for seed in range(5)])
    for seed, (train, fitted) in enumerate(zip(trains, together, strict=True)):
        alone = MANY[name].fit(train, rng(seed))
        assert fitted.chosen == alone.chosen
        np.testing.assert_allclose(fitted.predict_proba(test), alone.predict_proba(test), atol=1e-4)


@pytest.mark.parametrize("name", ["clip_adapter", "lp_plus_plus", "tip_adapter_f"])
def test_labels_tell_more_than_the_texts_alone(name: str) -> None:
    train, test = clip_like(images=200, seed=0, dim=128), clip_like(images=200, seed=1, dim=128)
    zero_shot = HEADS["zeroshot"].fit(train, rng()).predict_proba(test.features)
    learned = LEARNING[name].fit(train, rng()).predict_proba(test.features)
    assert accuracy(learned, test.labels) > accuracy(zero_shot, test.labels)
