"""SAM, MedSAM, SAM 2 as encoders: what the original packages see, cell by cell."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from skimage import transform
from transformers import SamImageProcessor, SamModel

from medfocus_pipeline.config import Runtime, SamEncoderConfig
from medfocus_pipeline.encoders import find_weights, load_encoder, model_id
from medfocus_pipeline.encoders.pooling import level_width, narrowed
from medfocus_pipeline.encoders.protocol import LevelEncoder
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.sam import sam2
from medfocus_pipeline.types import Image, ModelIdentity
from medfocus_pipeline.weights import FileHashes, Weights
from tests.segmenters.conftest import tiny_yaml
from tests.segmenters.sam_models import IMAGE_SIZE, write_sam

__all__ = ["tiny_yaml"]

SIZES = [(90, 90), (37, 120), (300, 64)]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def noise(height: int, width: int) -> Image:
    """Smooth enough for two resizers to agree, and not of the full range."""
    rng = np.random.default_rng(height * 1000 + width)
    small = rng.integers(20, 200, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Pillow.fromarray(small).resize((width, height), Pillow.Resampling.BICUBIC))


def load(config: SamEncoderConfig) -> LevelEncoder:
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    encoder = load_encoder(config, weights, Runtime(device="cpu"))
    assert isinstance(encoder, LevelEncoder)
    return encoder


def cosine(one: Any, other: Any) -> float:
    one, other = np.ravel(one), np.ravel(other)
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def check_map(encoder: LevelEncoder, image: Image, expected: torch.Tensor) -> None:
    """The tokens are the cells of a map ``(1, c, g, g)``, and `pooled` their mean."""
    found = encoder.encode(encoder.prepare(image)[None])
    cells = expected[0].flatten(1).T.numpy()
    assert encoder.token_grid == expected.shape[2:]
    assert found.tokens is not None
    assert found.tokens[0].shape == cells.shape
    centre = cells.mean(axis=0)  # a map of nearly equal cells is like any other of them
    assert cosine(found.tokens[0] - centre, cells - centre) > 0.9999
    assert found.pooled.shape == (1, encoder.dim)
    assert cosine(found.pooled[0], centre) > 0.9999


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sam(tmp_path_factory.mktemp("sam") / "tiny-sam")


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_sam_sees_what_transformers_sam_sees_of_the_squeezed_picture(
    folder: Path, height: int, width: int
) -> None:
    image = noise(height, width)
    square = Pillow.fromarray(image).resize((IMAGE_SIZE, IMAGE_SIZE), Pillow.Resampling.BILINEAR)
    processor = SamImageProcessor(
        size={"longest_edge": IMAGE_SIZE}, pad_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    )
    # A square picture it does not pad, and its resizing is then what must be met.
    shown = np.array(image if height == width else square)
    pixels = processor(shown, return_tensors="pt")
    with torch.inference_mode():
        expected = SamModel.from_pretrained(folder).get_image_embeddings(pixels["pixel_values"])
    check_map(load(SamEncoderConfig(model=str(folder))), image, expected)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_medsam_sees_the_pixels_of_its_authors_recipe(
    folder: Path, tmp_path: Path, height: int, width: int
) -> None:
    """bowang-lab/MedSAM, MedSAM_Inference.py; a folder of the hub's name is known by it."""
    named = write_sam(tmp_path / "medsam-vit-base")
    image = noise(height, width)
    square = transform.resize(
        image, (IMAGE_SIZE, IMAGE_SIZE), order=3, preserve_range=True, anti_aliasing=True
    ).astype(np.uint8)
    level = (square - square.min()) / np.clip(square.max() - square.min(), 1e-8, None)
    pixels = torch.tensor(level).float().permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected = SamModel.from_pretrained(folder).get_image_embeddings(pixels)
    encoder = load(SamEncoderConfig(model=str(named)))
    assert np.abs(encoder.prepare(image).astype(int) - square).max() <= 1
    check_map(encoder, image, expected)
    by_name = load(SamEncoderConfig(model=str(folder), pixels="medsam"))
    check_map(by_name, image, expected)


def test_levels_of_sam_are_the_blocks_own_outputs(folder: Path) -> None:
    model, image = SamModel.from_pretrained(folder).eval(), noise(64, 64)
    seen: list[torch.Tensor] = []
    for layer in model.vision_encoder.layers:
        layer.register_forward_hook(lambda *call: seen.append(call[2]))
    encoder = load(SamEncoderConfig(model=str(folder)))
    mean, std = torch.tensor([MEAN, STD])
    pixels = (torch.tensor(image) / 255 - mean) / std
    with torch.inference_mode():
        model.get_image_embeddings(pixels.permute(2, 0, 1)[None])
    maps = encoder.maps(image[None])
    assert encoder.level_dims == (24, 24)
    assert len(maps) == len(seen) == 2
    for found, expected in zip(maps, seen, strict=True):
        assert found.shape == (1, 4, 4, 24)
        assert cosine(found, narrowed(expected, 24).numpy()) > 0.9999


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_sam2_sees_what_the_packages_predictor_sees(height: int, width: int) -> None:
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    config = SamEncoderConfig(model="sam2-lite")
    encoder, image = load(config), noise(height, width)
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    model = sam2.load_model(sam2.Sam2Config(size="lite"), weights)
    predictor = SAM2ImagePredictor(model)
    # It counts on 1024 pixels where it reshapes the maps.
    predictor._bb_feat_sizes = [(64, 64), (32, 32), (16, 16)]
    shown, mean, std = encoder.prepare(image), *torch.tensor([MEAN, STD])[:, :, None, None]
    pixels = (predictor._transforms(np.array(image)) * std + mean) * 255
    # The package resizes in float; the rounding alone moves this small model's cells (to .97).
    assert np.abs(pixels.permute(1, 2, 0).numpy() - shown).max() <= 1.02
    predictor.set_image(np.array(shown))
    check_map(encoder, shown, predictor.get_image_embedding())
    with torch.inference_mode():
        stages = model.image_encoder.trunk(predictor._transforms(np.array(shown))[None])
    maps = encoder.maps(shown[None])
    assert encoder.level_dims == (24, 40, 96, 96)  # of 112 and 320 channels the last two
    for found, stage in zip(maps, stages, strict=True):
        expected = narrowed(stage.permute(0, 2, 3, 1), level_width(encoder.dim))
        assert cosine(found, expected.numpy()) > 0.9999


@pytest.mark.parametrize(
    ("size", "repo"),
    [
        ("tiny", "facebook/sam2.1-hiera-tiny"),
        ("small", "facebook/sam2.1-hiera-small"),
        ("base_plus", "facebook/sam2.1-hiera-base-plus"),
        ("large", "facebook/sam2.1-hiera-large"),
        ("medsam2", "wanglab/MedSAM2"),
    ],
)
def test_each_sam2_of_the_hub_is_found_by_its_id(size: sam2.Sam2Size, repo: str) -> None:
    assert sam2.size_of(repo) == size
    assert model_id(SamEncoderConfig(model=repo)) == repo


def test_hieras_last_map_and_stages_are_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The true architecture of SAM 2.1 tiny, at a quarter of its size for speed."""
    model = sam2.random_model("tiny", seed=0)
    model.image_size = 256
    monkeypatch.setattr(sam2, "load_model", lambda *_: model)
    # The whole checkpoint is not needed: what is loaded is given above.
    encoder = load_encoder(
        SamEncoderConfig(model="facebook/sam2.1-hiera-tiny"),
        Weights(ModelIdentity(id="tiny"), {}),
        Runtime(device="cpu"),
    )
    image = noise(256, 256)
    mean, std = torch.tensor([MEAN, STD])
    pixels = ((torch.tensor(image) / 255 - mean) / std).permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected = model.forward_image(pixels)["vision_features"]
        expected = expected + model.no_mem_embed.view(1, -1, 1, 1)
    assert isinstance(encoder, LevelEncoder)
    assert encoder.level_dims == (96, 192, 192, 192)  # of 96, 192, 384 and 768 channels
    check_map(encoder, image, expected)


def test_medsam2_gets_the_square_that_pillow_makes_by_default(
    tiny_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = sam2.build_model(tiny_yaml, side=512)
    monkeypatch.setattr(sam2, "load_model", lambda *_: model)
    encoder = load_encoder(
        SamEncoderConfig(model="wanglab/MedSAM2"),
        Weights(ModelIdentity(id="medsam2"), {}),
        Runtime(device="cpu"),
    )
    assert isinstance(encoder, LevelEncoder)
    image = noise(37, 120)
    square = np.asarray(Pillow.fromarray(image).resize((512, 512)))
    shown = encoder.prepare(image)
    np.testing.assert_array_equal(shown, square)
    pixels = ((torch.tensor(square) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(
        2, 0, 1
    )
    with torch.inference_mode():
        expected = model.forward_image(pixels[None])["vision_features"]
        check_map(encoder, image, expected + model.no_mem_embed.view(1, -1, 1, 1))


def test_another_model_in_the_folder_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    said = json.loads((folder / "config.json").read_text()) | {"model_type": "clip"}
    (tmp_path / "config.json").write_text(json.dumps(said))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(WeightsError, match="its model_type is 'clip', not 'sam'"):
        load(SamEncoderConfig(model=str(tmp_path)))
