from dataclasses import replace

import numpy as np
import pytest

from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.zeroshot import Texts, tiled
from tests.heads.sets import made_up, separable


def test_texts_repeat_for_each_joined_part_at_unit_length() -> None:
    text = separable().text
    assert text is not None
    found = tiled(text, dim=24)
    assert found.shape == (3, 24)
    np.testing.assert_allclose(found, np.tile(text, (1, 3)) / np.sqrt(3), atol=1e-6)


def test_the_cosine_of_joined_features_is_the_mean_of_the_parts() -> None:
    train = separable()
    both = np.concatenate([train.features[:, 0], train.features[:, 1]], axis=1) / np.sqrt(2)
    joined = replace(train, features=both[:, None])
    texts = Texts.of(joined, head="x")
    cosines = (train.features @ train.text.T).mean(axis=1)
    np.testing.assert_allclose(texts.zero_shot(both), cosines / 0.05, rtol=1e-4, atol=1e-4)


def test_features_of_another_dimension_are_refused() -> None:
    odd = replace(made_up(), text=np.eye(3, 5, dtype=np.float32), temperature=0.01)
    with pytest.raises(DataError, match=r"12 dimensions and class texts 5, expected a multiple"):
        Texts.of(odd, head="x")


@pytest.mark.parametrize("lack", ["text", "temperature"])
def test_without_texts_or_temperature_the_head_is_named(lack: str) -> None:
    train = replace(separable(), **{lack: None})
    with pytest.raises(DataError, match=r"Head zeroshot needs a dual encoder"):
        Texts.of(train, head="zeroshot")


def test_the_texts_of_one_focus_mode_are_the_texts() -> None:
    train = separable()
    assert train.text is not None
    np.testing.assert_allclose(tiled(train.text, dim=train.text.shape[1]), train.text)
