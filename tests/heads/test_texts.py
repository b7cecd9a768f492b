from dataclasses import replace

import numpy as np
import pytest

from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.texts import Texts, class_vectors, tiled
from tests.heads.sets import made_up, separable, take


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


def test_class_vectors_are_the_texts_or_else_the_class_means() -> None:
    train = separable()
    np.testing.assert_allclose(class_vectors(train), train.text)
    own = replace(train, text=None)
    means = np.stack([train.features[train.labels == k].mean(axis=(0, 1)) for k in range(3)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(class_vectors(own), means, atol=1e-6)


def test_a_class_without_images_has_the_mean_of_all() -> None:
    train = made_up()
    rest = take(train, np.flatnonzero(train.labels != 1))
    mean = rest.features.mean(axis=(0, 1))
    np.testing.assert_allclose(class_vectors(rest)[1], mean / np.linalg.norm(mean), atol=1e-6)
