"""The sizing table's operations are those that other people publish for the same networks."""

import pytest
from torchvision.models import ResNet50_Weights, ViT_B_16_Weights

from tests.bench import flops


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("resnet50", ResNet50_Weights.IMAGENET1K_V1),
        ("vit_base_patch16_224", ViT_B_16_Weights.IMAGENET1K_V1),
    ],
)
def test_operations_are_those_that_torchvision_gives(
    name: str, weights: ResNet50_Weights | ViT_B_16_Weights
) -> None:
    # It counts a multiplication and its addition as one, and the last layer too.
    found = flops.timm_operations(name) / 2
    assert found == pytest.approx(weights.meta["_ops"] * 1e9, rel=0.01)
