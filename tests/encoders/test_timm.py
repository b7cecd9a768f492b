"""timm models: what the adapter gives is what timm gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file, save_file
from timm.data import create_transform, resolve_model_data_config

from medfocus_pipeline.config import Runtime, TimmConfig
from medfocus_pipeline.encoders import TextEncoder, find_weights, load_encoder
from medfocus_pipeline.encoders.pooling import level_width, narrowed
from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.types import Image
from medfocus_pipeline.weights import FileHashes

CPU = Runtime(device="cpu")

# Convolution (NCHW), transformer with a class token, with class and register tokens, windowed
# transformer (NHWC), a head that projects, one that flattens.
MODELS = {
    "test_resnet.r160_in1k": (5, 5),
    "test_vit.r160_in1k": (10, 10),
    "test_vit4.r160_in1k": (10, 10),
    "test_nfnet.r160_in1k": (5, 5),
    "swin_tiny_patch4_window7_224.ms_in1k": (7, 7),
    "mobilenetv3_small_050.lamb_in1k": None,
}


def save(name: str, folder: Path, **options: Any) -> Path:
    """A random model of that name, saved with safetensors."""
    torch.manual_seed(0)
    path = folder / f"{name}.safetensors"
    save_file(timm.create_model(name, pretrained=False, **options).state_dict(), path)
    return path


def load(name: str, path: Path) -> ImageTower:
    config = TimmConfig(model=name, checkpoint=path)
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    encoder = load_encoder(config, weights, CPU)
    assert isinstance(encoder, ImageTower)
    return encoder


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )


@pytest.mark.parametrize("name", MODELS)
def test_features_equal_the_headless_models_own(name: str, tmp_path: Path) -> None:
    path = save(name, tmp_path)
    encoder = load(name, path)
    model = timm.create_model(name, pretrained=False, num_classes=0).eval()
    model.load_state_dict(load_file(path), strict=False)
    transform = create_transform(**resolve_model_data_config(model))

    images = [noise(40, 300), noise(500, 333), noise(1, 1)]
    pixels = torch.stack([transform(Pillow.fromarray(image)) for image in images])
    with torch.inference_mode():
        pooled = model(pixels).numpy()
        features = model.forward_features(pixels)
    encoded = encoder.encode(np.stack([encoder.prepare(image) for image in images]))

    np.testing.assert_allclose(encoded.pooled, pooled, atol=1e-4)
    assert encoder.dim == pooled.shape[1]
    assert encoder.token_grid == MODELS[name]
    assert not isinstance(encoder, TextEncoder)
    if encoder.token_grid is None:
        assert encoded.tokens is None
        return
    expected = _tokens(name, features)
    assert encoded.tokens is not None
    np.testing.assert_allclose(encoded.tokens, expected.numpy(), atol=1e-4)


def _tokens(name: str, features: torch.Tensor) -> torch.Tensor:
    if features.ndim == 3:
        prefix = 1 if name.startswith("test_vit.") else features.shape[1] - 100
        return features[:, prefix:]
    return (features if name.startswith("swin") else features.permute(0, 2, 3, 1)).flatten(1, 2)


@pytest.mark.parametrize("classes", [0, 4, 1000])
def test_checkpoint_may_have_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    path = save("test_resnet", tmp_path, num_classes=classes)
    picture = noise(160, 160)[None]
    reference = timm.create_model("test_resnet", pretrained=False, num_classes=0).eval()
    reference.load_state_dict(load_file(path), strict=False)
    encoder = load("test_resnet", path)
    with torch.inference_mode():
        pixels = torch.from_numpy(picture).permute(0, 3, 1, 2).float()
        mean, std = (values.view(3, 1, 1) for values in (encoder.model.mean, encoder.model.std))
        expected = reference((pixels - mean) / std)
    np.testing.assert_allclose(encoder.encode(picture).pooled, expected.numpy(), atol=1e-4)


def test_pickled_state_dict_is_read_without_running_code(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"state_dict": load_file(save("test_resnet", tmp_path))}, path)
    assert load("test_resnet", path).dim == 96

    torch.save({"state_dict": Path("not a tensor")}, path)
    with pytest.raises(WeightsError, match=r"weights_only|Unpickling"):
        load("test_resnet", path)


@pytest.mark.parametrize("name", ["test_resnet", "swin_tiny_patch4_window7_224"])
def test_levels_are_the_means_of_timms_own_feature_maps(name: str, tmp_path: Path) -> None:
    """Of a pyramid's K stages those after each quarter, as `features_only` gives them."""
    path = save(name, tmp_path)
    encoder = load(name, path)
    model = timm.create_model(name, pretrained=False, features_only=True).eval()
    tensors = load_file(path)
    renamed = {
        key: tensors.get(key, tensors.get(key.replace("layers_", "layers.")))
        for key in model.state_dict()
    }
    model.load_state_dict(renamed)
    picture = encoder.prepare(noise(90, 120))[None]
    pixels = torch.from_numpy(picture).permute(0, 3, 1, 2).float()
    mean, std = (values.view(3, 1, 1) for values in (encoder.model.mean, encoder.model.std))
    with torch.inference_mode():
        maps = model((pixels - mean) / std)
    if name.startswith("swin"):
        maps = [one.permute(0, 3, 1, 2) for one in maps]
        last = maps[-1].permute(0, 2, 3, 1)  # it alone passes through the model's last norm
        normed = torch.nn.functional.layer_norm(
            last, last.shape[3:], tensors["norm.weight"], tensors["norm.bias"]
        )
        maps[-1] = normed.permute(0, 3, 1, 2)
    wanted = [  # of 5 stages after 2, 3, 4 and 5; of 4 all
        narrowed(one.permute(0, 2, 3, 1), level_width(encoder.dim)) for one in maps[-4:]
    ]
    expected = [one.mean(dim=(1, 2)) for one in wanted]
    expected = torch.cat([one / one.norm() for one in expected], dim=1)
    assert encoder.level_dims == tuple(one.shape[3] for one in wanted)
    np.testing.assert_allclose(encoder.pool(picture, None)["levels"], expected, atol=1e-4)
    for found, one in zip(encoder.maps(picture), wanted, strict=True):
        np.testing.assert_allclose(found, one, atol=1e-3)


def test_a_model_whose_head_projects_has_levels_and_no_roi_pooled(tmp_path: Path) -> None:
    name = "mobilenetv3_small_050"
    encoder = load(name, save(name, tmp_path))
    picture = encoder.prepare(noise(64, 64))[None]
    found = encoder.pool(picture, np.full((1, encoder.side, encoder.side), 255, np.uint8))
    assert set(found) == {"pooled", "levels", "roi_levels"}
    np.testing.assert_allclose(found["levels"], found["roi_levels"], atol=1e-5)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _other_model(path: Path) -> None:
    save_file({"conv1.weight": torch.zeros(3)}, path)


def _one_tensor_less(path: Path) -> None:
    tensors = load_file(path)
    tensors.pop("layer1.0.conv1.weight")
    save_file(tensors, path)


@pytest.mark.parametrize("damage", [_truncate, _empty, _other_model, _one_tensor_less])
def test_damaged_checkpoint_is_one_sentence(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = save("test_resnet", tmp_path)
    damage(path)
    with pytest.raises(WeightsError, match="do not load as timm's test_resnet") as caught:
        load("test_resnet", path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["no_such_model", "test_resnet.no_such_tag"])
def test_unknown_model_is_reported(tmp_path: Path, name: str) -> None:
    path = save("test_resnet", tmp_path)
    with pytest.raises(WeightsError, match=f"do not load as timm's {name}"):
        load(name, path)


def test_missing_checkpoint_is_reported(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        load("test_resnet", tmp_path / "absent.pth")


def test_name_without_tag_needs_a_checkpoint() -> None:
    with pytest.raises(WeightsError, match="without its tag"):
        find_weights(TimmConfig(model="resnet50"), FileHashes(), download=False)


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet50", "timm/resnet50.a1_in1k", "a\\b"])
def test_addresses_are_no_names(name: str) -> None:
    with pytest.raises(WeightsError, match="is not a plain name"):
        find_weights(TimmConfig(model=name), FileHashes(), download=True)


def test_hub_model_is_found_only_when_cached() -> None:
    config = TimmConfig(model="medfocus_tests.no_such_tag")
    assert find_weights(config, FileHashes(), download=False) is None
