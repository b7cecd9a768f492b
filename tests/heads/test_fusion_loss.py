import math

import numpy as np
import pytest
import torch

from medfocus_pipeline.config import FusionConfig
from medfocus_pipeline.heads.fusion_mix import VARIANTS, Weights, fuse, initial, keys, queries
from medfocus_pipeline.heads.fusion_space import Space
from medfocus_pipeline.heads.fusion_train import contrast, cross_entropy, loss
from tests.heads.sets import dual_encoder

TRAIN = dual_encoder(images=24, seed=0)
SPACE = Space.of(TRAIN, width=8, generator=torch.Generator().manual_seed(0))
LABELS = SPACE.labels


def start(variant: str = "attention") -> Weights:
    texts, origin = SPACE.start(np.arange(len(SPACE.x)))
    return initial(texts, origin, variant=variant, generator=torch.Generator().manual_seed(0))


def config_of(variant: str) -> FusionConfig:
    return FusionConfig.model_validate({"variant": variant, "temperature": 0.07})


def found(weights: Weights, mix: float, *, variant: str = "attention") -> torch.Tensor:
    return loss(
        weights,
        SPACE.x,
        SPACE.length,
        LABELS,
        mix=torch.tensor(mix),
        config=config_of(variant),
    )


def test_contrast_of_several_images_to_a_text_is_the_one_computed_by_hand() -> None:
    similarity = torch.tensor([[2.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    labels = torch.tensor([0, 0, 1])
    to_text = [math.log(math.exp(2) + 1 + math.e) - 2, math.log(math.e + 2) - 1]
    to_text.append(math.log(math.exp(3) + 2) - 3)
    first = math.log(math.exp(2) + math.e + 1)
    to_images = [((first - 2) + (first - 1)) / 2, math.log(2 + math.exp(3)) - 3]
    expected = (np.mean(to_text) + np.mean(to_images)) / 2
    assert contrast(similarity, labels).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_lambda_zero_is_the_entropy_alone_and_lambda_one_the_contrast(variant: str) -> None:
    weights = start(variant)
    cosine = queries(weights, SPACE.x) @ keys(weights).T
    contrastive = contrast(cosine / 0.07, LABELS)
    torch.testing.assert_close(found(weights, 0.0, variant=variant), torch.tensor(math.log(4)))
    torch.testing.assert_close(found(weights, 1.0, variant=variant), contrastive)
    both = 0.3 * contrastive + 0.7 * math.log(4)
    torch.testing.assert_close(found(weights, 0.3, variant=variant), both)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_reads_the_m_that_is_fused(variant: str) -> None:
    weights = start(variant)
    weights["strength"] += 0.5
    weights["head"] += torch.randn(weights["head"].shape, generator=torch.Generator())
    fused = fuse(
        {name: tensor.numpy() for name, tensor in weights.items()},
        SPACE.basis.numpy(),
        TRAIN.features,
        config_of(variant),
    )
    inside = torch.tensor(fused).flatten(0, 1) @ SPACE.basis
    expected = torch.nn.functional.cross_entropy(inside @ weights["head"], LABELS)
    torch.testing.assert_close(found(weights, 0.0, variant=variant), expected)


def test_losses_of_trainings_side_by_side_are_those_of_each() -> None:
    source = torch.Generator().manual_seed(0)
    similarity = torch.randn((5, 7, 3), generator=source)
    labels = torch.randint(3, (5, 7), generator=source)
    for losses in (contrast, cross_entropy):
        each = torch.stack([losses(*pair) for pair in zip(similarity, labels, strict=True)])
        torch.testing.assert_close(losses(similarity, labels), each)
    torch.testing.assert_close(
        cross_entropy(similarity[0], labels[0]),
        torch.nn.functional.cross_entropy(similarity[0], labels[0]),
    )
