"""DINOv2, RAD-DINO, DINOv3: what the adapter gives is what transformers gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    BitImageProcessor,
    Dinov2Backbone,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersBackbone,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
    DINOv3ViTBackbone,
    DINOv3ViTConfig,
    DINOv3ViTImageProcessor,
    DINOv3ViTModel,
)

from medfocus_pipeline.config import Runtime, VisionConfig
from medfocus_pipeline.encoders import Encoder, find_weights, has_text, load_encoder
from medfocus_pipeline.encoders.pooling import level_indices, level_width, narrowed
from medfocus_pipeline.encoders.protocol import LevelEncoder
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.types import Image
from medfocus_pipeline.weights import FileHashes

from .models import save_clip

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 14,
}


def save_rad_dino(folder: Path) -> Path:
    """RAD-DINO's classes: 70 x 70 pixels, a grid of 5 x 5."""
    Dinov2Model(Dinov2Config(image_size=70, **_SIZES)).save_pretrained(folder)
    BitImageProcessor(
        size={"shortest_edge": 70},
        crop_size={"height": 70, "width": 70},
        image_mean=[0.5307] * 3,
        image_std=[0.2583] * 3,
    ).save_pretrained(folder)
    return folder


def save_registers(folder: Path) -> Path:
    """DINOv2 with 4 registers, its positions of a larger picture than it is shown."""
    config = Dinov2WithRegistersConfig(image_size=84, num_register_tokens=4, **_SIZES)
    Dinov2WithRegistersModel(config).save_pretrained(folder)
    BitImageProcessor(
        size={"shortest_edge": 80}, crop_size={"height": 70, "width": 70}
    ).save_pretrained(folder)
    return folder


def save_dino3(folder: Path) -> Path:
    """DINOv3 with 4 registers."""
    sizes = _SIZES | {"patch_size": 16, "intermediate_size": 48}
    config = DINOv3ViTConfig(image_size=80, num_register_tokens=4, **sizes)
    DINOv3ViTModel(config).save_pretrained(folder)
    DINOv3ViTImageProcessor(size={"height": 80, "width": 80}).save_pretrained(folder)
    return folder


def save_convnext(folder: Path) -> Path:
    """DINOv3's ConvNeXt: no patches, but a map at stride 32."""
    config = DINOv3ConvNextConfig(hidden_sizes=[8, 8, 16, 32], depths=[1, 1, 1, 1], image_size=160)
    DINOv3ConvNextModel(config).save_pretrained(folder)
    DINOv3ViTImageProcessor(size={"height": 160, "width": 160}).save_pretrained(folder)
    return folder


@pytest.fixture(
    scope="module",
    params=[save_rad_dino, save_registers, save_dino3, save_convnext],
    ids=lambda one: one.__name__,
)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    save: Callable[[Path], Path] = request.param
    return save(tmp_path_factory.mktemp("model") / "tiny")


def load(folder: Path) -> Encoder:
    config = VisionConfig(model=str(folder))
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    return load_encoder(config, weights, Runtime(device="cpu"))


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )


@pytest.mark.parametrize(("height", "width"), [(1, 1), (70, 70), (33, 300), (224, 100)])
def test_pixels_class_token_and_patch_tokens_are_the_models_own(
    folder: Path, height: int, width: int
) -> None:
    image, encoder = noise(height, width), load(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        pixels = processor(image, return_tensors="pt", input_data_format="channels_last")
        expected = model(**pixels)
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std)
    )
    level = ((pixels["pixel_values"][0] * std + mean) * 255).numpy()
    picture = encoder.prepare(image)
    assert np.abs(picture.transpose(2, 0, 1) - level).max() <= 1
    found = encoder.encode(picture[None])
    assert cosine(found.pooled[0], expected.pooler_output[0].numpy()) > 0.9999
    assert encoder.token_grid == (5, 5)
    assert found.tokens is not None
    registers = getattr(model.config, "num_register_tokens", 0)
    patches = expected.last_hidden_state[0, 1 + registers :].numpy()
    assert found.tokens.shape == (1, 25, 32)
    assert cosine(found.tokens.ravel(), patches.ravel()) > 0.9999


@pytest.mark.parametrize(
    ("save", "backbone"),
    [
        (save_rad_dino, Dinov2Backbone),
        (save_registers, Dinov2WithRegistersBackbone),
        (save_dino3, DINOv3ViTBackbone),
    ],
)
def test_levels_are_the_feature_maps_of_transformers_backbone(
    save: Callable[[Path], Path], backbone: Any, tmp_path: Path
) -> None:
    """Whose maps pass through the last layer norm, as the authors' do."""
    encoder = load(save(tmp_path / "tiny"))
    assert isinstance(encoder, LevelEncoder)
    picture = encoder.prepare(noise(70, 70))[None]
    depth = AutoConfig.from_pretrained(tmp_path / "tiny").num_hidden_layers
    original = backbone.from_pretrained(
        tmp_path / "tiny", out_indices=[index + 1 for index in level_indices(depth)]
    ).eval()
    processor = AutoImageProcessor.from_pretrained(tmp_path / "tiny")
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std)
    )
    pixels = (torch.from_numpy(picture[0]).permute(2, 0, 1) / 255 - mean) / std
    with torch.inference_mode():
        wanted = original(pixels[None]).feature_maps
    for level, one in zip(encoder.maps(picture), wanted, strict=True):
        expected = narrowed(one.permute(0, 2, 3, 1), level_width(encoder.dim))
        np.testing.assert_allclose(level, expected, atol=1e-3)


def cosine(one: Any, other: Any) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_it_has_no_texts_and_says_so_without_loading(folder: Path) -> None:
    assert not has_text(VisionConfig(model=str(folder)))


def test_a_model_of_another_kind_is_one_sentence(tmp_path: Path) -> None:
    folder = save_clip(tmp_path / "clip")
    with pytest.raises(WeightsError, match="its model_type is 'clip', not one of dinov2"):
        load(folder)
