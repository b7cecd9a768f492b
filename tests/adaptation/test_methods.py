from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from medfocus_pipeline.adaptation import METHODS, make_method, named
from medfocus_pipeline.config import ContrastiveConfig, MlpConfig, SupConConfig
from medfocus_pipeline.config.adaptation import (
    AdaptationConfig,
    AdaptConfig,
    AdversarialConfig,
    SourceContrastiveConfig,
    SourceMlpConfig,
    SourceSupConConfig,
)
from medfocus_pipeline.errors import ConfigError, DataError
from tests.adaptation.tasks import quarters, shifted

FEW_STEPS = MlpConfig(widths=(8, 4), epochs=2, least_steps=4)
QUICK: dict[str, AdaptationConfig] = {
    "mlp": SourceMlpConfig(head=FEW_STEPS),
    "contrastive": SourceContrastiveConfig(head=ContrastiveConfig(network=FEW_STEPS, width=4)),
    "supcon": SourceSupConConfig(head=SupConConfig(network=FEW_STEPS, width=4)),
    "dann": AdversarialConfig(network=FEW_STEPS),
    "dann+augmentation": AdversarialConfig(name="dann+augmentation", network=FEW_STEPS),
    "cdan": AdversarialConfig(name="cdan", network=FEW_STEPS),
}
"""Methods that train for long, for less."""


def test_every_configuration_has_its_method() -> None:
    union, _ = get_args(AdaptationConfig)
    assert set(get_args(union)) == {type(named(name)) for name in METHODS}
    assert [named(name).name for name in METHODS] == list(METHODS)


def test_a_method_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match=r"no method 'sourse'. Did you mean source\?.*oracle"):
        named("sourse")


def test_only_the_oracle_reads_labels_of_the_target() -> None:
    assert [name for name, entry in METHODS.items() if entry.reads_target_labels] == ["oracle"]


def test_a_configuration_is_written_and_read_again() -> None:
    config = AdaptConfig(methods=tuple(named(name) for name in METHODS))
    assert AdaptConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_probabilities_for_every_seed_and_the_same_again(name: str) -> None:
    task, _ = shifted(images=24, dim=6)
    method, rows = make_method(QUICK.get(name, named(name))), quarters(task)
    found = method.adapt(task, rows, [0, 1])
    assert found.probabilities.shape == (2, 96, 2)
    assert found.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.probabilities.sum(axis=2), 1, atol=1e-5)
    assert len(found.choices) == 2
    alone = method.adapt(task, rows[1:], [1])
    np.testing.assert_allclose(alone.probabilities[0], found.probabilities[1], atol=1e-4)
    assert alone.choices[0] == pytest.approx(found.choices[1])
    if found.projected is not None:
        source, target = found.projected
        assert (len(source), len(target)) == (18, 24)
        assert source.shape[1] == target.shape[1]


def test_domains_that_do_not_fit_are_refused() -> None:
    task, _ = shifted(images=8)
    with pytest.raises(DataError, match="one encoder and the same views"):
        make_method(named("source")).adapt(replace(task, test=task.test[:, 1:]), [], [])
    broken = task.target.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(DataError, match="not finite"):
        make_method(named("source")).adapt(replace(task, target=broken), [], [])
