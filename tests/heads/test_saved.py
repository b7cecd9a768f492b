from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as write_tensors

from medfocus_pipeline.config import (
    ClipAdapterConfig,
    CoCoOpConfig,
    ContrastiveConfig,
    CoOpConfig,
    FusionConfig,
    HeadConfig,
    LinearConfig,
    LpPlusPlusConfig,
    MlpConfig,
    SupConConfig,
    TipAdapterConfig,
    TipAdapterFConfig,
    ZeroShotConfig,
)
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.heads.protocol import FittedHead, TrainingSet
from medfocus_pipeline.heads.saved import Saved, load, save
from medfocus_pipeline.heads.table import HEADS, make_head
from tests.heads import prompt_sets, sets

PROMPTS = (CoOpConfig(epochs=(1, 1, 1), context=2), CoCoOpConfig(epochs=1))
PLAIN = (
    ZeroShotConfig(),
    LinearConfig(),
    FusionConfig(width=8, epochs=2),
    FusionConfig(width=8, epochs=2, variant="similarity"),
    TipAdapterConfig(),
    TipAdapterFConfig(epochs=2),
    ClipAdapterConfig(epochs=(2, 2, 2)),
    LpPlusPlusConfig(iterations=5),
    MlpConfig(epochs=2),
    ContrastiveConfig(network=MlpConfig(epochs=2)),
    SupConConfig(network=MlpConfig(epochs=2)),
)


def training_set(config: HeadConfig) -> TrainingSet:
    return prompt_sets.separable() if config in PROMPTS else sets.clip_like(images=24, seed=0)


def fitted(config: HeadConfig) -> FittedHead:
    return make_head(config).fit(training_set(config), np.random.default_rng(0))


def through_a_file(saved: Saved) -> Saved:
    """As it comes back from safetensors: read-only arrays in another order."""
    arrays = read_tensors(write_tensors(dict(saved.arrays)))
    return replace(saved, arrays=dict(sorted(arrays.items(), reverse=True)))


@pytest.mark.parametrize("config", [*PLAIN, *PROMPTS], ids=lambda config: config.name)
def test_every_head_predicts_the_same_after_it_was_stored(config: HeadConfig) -> None:
    head, train = fitted(config), training_set(config)
    again = load(through_a_file(save(head)), prompts=train.prompts)
    expected = head.predict_proba(train.features)
    np.testing.assert_allclose(again.predict_proba(train.features), expected, atol=1e-7)
    assert again.chosen == head.chosen


def test_every_head_of_the_table_is_tried() -> None:
    assert {config.name for config in (*PLAIN, *PROMPTS)} == set(HEADS)


def test_a_class_without_training_images_stays_impossible() -> None:
    train = replace(sets.made_up(classes=2), n_classes=3)
    head = make_head(LinearConfig()).fit(train, np.random.default_rng(0))
    again = load(through_a_file(save(head)))
    assert (again.predict_proba(train.features)[:, 2] == 0).all()


def test_cocoop_asks_for_its_text_tower() -> None:
    saved = save(fitted(PROMPTS[1]))
    with pytest.raises(WeightsError, match="text tower"):
        load(saved)


def test_a_head_that_lacks_an_array_is_refused() -> None:
    saved = save(fitted(LinearConfig()))
    with pytest.raises(WeightsError, match="'coef'"):
        load(replace(saved, arrays={"intercept": saved.arrays["intercept"]}))


def test_a_head_of_an_unknown_kind_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(WeightsError, match="'forest', known are zeroshot, linear"):
        load(Saved("forest", {}, {}))
