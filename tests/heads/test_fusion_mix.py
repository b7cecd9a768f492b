import math
from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medfocus_pipeline.config import FusionConfig
from medfocus_pipeline.heads.fusion_mix import (
    VARIANTS,
    Weights,
    fuse,
    fuse_inside,
    initial,
    keys,
    likeness,
    queries,
)
from medfocus_pipeline.heads.fusion_space import Space
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.types import FloatArray
from tests.heads.sets import dual_encoder, made_up

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def start(train: TrainingSet, *, variant: str = "attention") -> tuple[Space, Weights]:
    space = Space.of(train, width=8, generator=torch.Generator().manual_seed(0))
    texts, origin = space.start(np.arange(len(space.x)))
    source = torch.Generator().manual_seed(0)
    return space, initial(texts, origin, variant=variant, generator=source)


def opened(train: TrainingSet, *, variant: str) -> tuple[Space, Weights]:
    space, weights = start(train, variant=variant)
    weights["strength"] += 0.5
    return space, weights


def config_of(variant: str) -> FusionConfig:
    return FusionConfig.model_validate({"variant": variant, "temperature": 0.07})


def m(space: Space, weights: Weights, features: FloatArray, *, variant: str) -> FloatArray:
    arrays = {name: tensor.numpy() for name, tensor in weights.items()}
    return fuse(arrays, space.basis.numpy(), features, config_of(variant))


def test_the_table_has_the_variants_of_the_configuration() -> None:
    assert set(VARIANTS) == set(get_args(FusionConfig.model_fields["variant"].annotation))
    with pytest.raises(ValidationError, match="variant"):
        FusionConfig.model_validate({"variant": "product"})


@every_variant
@pytest.mark.parametrize("train", [made_up(), dual_encoder(images=20, seed=0)])
def test_fusion_begins_as_the_identity(train: TrainingSet, variant: str) -> None:
    fused = m(*start(train, variant=variant), train.features, variant=variant)
    assert fused.shape == train.features.shape
    assert fused.dtype == np.float32
    np.testing.assert_allclose(fused, train.features, atol=1e-6)


def test_attention_begins_as_the_zero_shot_classifier() -> None:
    train = dual_encoder(images=40, seed=0)
    assert train.text is not None
    space, weights = start(train)
    cosines = queries(weights, torch.tensor(train.features[:, 0]) @ space.basis) @ keys(weights).T
    images = train.features[:, 0] - train.features.mean(axis=(0, 1))
    texts = train.text - train.text.mean(axis=0)
    cosine = images @ texts.T / np.linalg.norm(texts, axis=1)
    ranks = np.argsort(cosines.numpy(), axis=1)
    assert (ranks == np.argsort(cosine, axis=1)).all()


def test_an_attention_that_has_not_learned_mixes_as_the_gated_variant() -> None:
    train = dual_encoder(images=24, seed=0)
    space, weights = opened(train, variant="attention")
    attention = m(space, weights, train.features, variant="attention")
    gated = m(space, weights, train.features, variant="gated")
    np.testing.assert_allclose(attention, gated, atol=1e-6)
    weights["image"] += 0.3
    np.testing.assert_array_equal(m(space, weights, train.features, variant="gated"), gated)


def test_each_variant_is_its_formula() -> None:
    space, weights = opened(dual_encoder(images=24, seed=0), variant="concat")
    query, key = queries(weights, space.x), keys(weights)
    share = likeness(query, key, 0.07)
    joined, both = (
        torch.cat([query, share @ key], dim=1),
        [weights["map_image"], weights["map_text"]],
    )
    mapped = joined @ torch.cat(both) / math.sqrt(16) + weights["shift"]
    close = torch.testing.assert_close
    close(VARIANTS["concat"](weights, key, space.x, 0.07), mapped)
    close(VARIANTS["attention"](weights, key, space.x, 0.07), torch.sigmoid(mapped) * (share @ key))
    back = {**weights, "back": key * 2}
    close(VARIANTS["similarity"](back, key, space.x, 0.07), query @ key.T @ key / 0.07)


@every_variant
def test_m_keeps_the_length_of_the_image(variant: str) -> None:
    train = dual_encoder(images=24, seed=0)
    joined = TrainingSet(
        np.concatenate([train.features, train.features[:, ::-1]], axis=2),
        train.labels,
        4,
        train.text,
    )
    fused = m(*opened(joined, variant=variant), joined.features, variant=variant)
    np.testing.assert_allclose(np.linalg.norm(fused, axis=2), np.sqrt(2), rtol=1e-5)
    assert np.abs(fused - joined.features).max() > 1e-3


@every_variant
def test_m_inside_the_space_is_m_projected(variant: str) -> None:
    train = dual_encoder(images=24, seed=0)
    space, weights = opened(train, variant=variant)
    whole = m(space, weights, train.features, variant=variant)
    inside = fuse_inside(weights, keys(weights), space.x, space.length, config_of(variant))
    projected = torch.tensor(whole).flatten(0, 1) @ space.basis
    torch.testing.assert_close(inside, projected, atol=1e-6, rtol=1e-4)


@every_variant
def test_every_class_text_takes_part_in_every_image(variant: str) -> None:
    """Whichever class an image is of: F has no way to tell."""
    train = dual_encoder(images=24, seed=0)
    space, weights = opened(train, variant=variant)
    before = m(space, weights, train.features, variant=variant)
    for label in range(train.n_classes):
        texts = weights["texts"].clone()
        texts[label] = -texts[label]
        after = m(space, {**weights, "texts": texts}, train.features, variant=variant)
        assert (np.abs(after - before).max(axis=(1, 2)) > 0).all()
