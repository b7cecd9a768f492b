"""open_clip_torch: what the adapter gives is what the package gives, also without a network."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import save_file
from transformers import BertConfig

from medfocus_pipeline.config import OpenClipConfig, Runtime
from medfocus_pipeline.encoders import TextEncoder, find_weights, load_encoder
from medfocus_pipeline.encoders.tower import DualTower
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.types import FloatArray, Image
from medfocus_pipeline.weights import FileHashes

from .models import WORDS, save_tokenizer

BERT = "acme/tiny-bert"
TEXTS = ["a photo of the brain", "tumor", "a scan of the lungs normal a photo of a breast"]
GREY = {"mean": [0.4, 0.45, 0.5], "std": [0.2, 0.25, 0.3]}

_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
NATIVE: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": _TEXT,
    },
    "preprocess_cfg": GREY | {"interpolation": "bicubic", "resize_mode": "squash"},
}
"""As LAION's repositories have it."""

BIOMED: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 24,
        "vision_cfg": {
            "timm_model_name": "test_vit",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 160,
        },
        "text_cfg": {
            "hf_model_name": BERT,
            "hf_tokenizer_name": BERT,
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": 256,
        },
    },
    "preprocess_cfg": GREY,
}
"""As BiomedCLIP's repository has it, with other towers."""


def save_bert(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "initializer_range": 0.5,
    }
    BertConfig(
        vocab_size=len(WORDS) + 4, intermediate_size=24, max_position_embeddings=256, **sizes
    ).save_pretrained(folder)
    return folder


def save_native(folder: Path, config: dict[str, Any] = NATIVE) -> Path:
    """A folder with safetensors, whose texts the package's own tokenizer reads."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    save_file(open_clip.CLIP(**_copy(config)["model_cfg"]).state_dict(), folder / TENSORS)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def save_biomed(folder: Path) -> Path:
    """A folder with a PyTorch file; its text tower's files are in a folder of their own."""
    torch.manual_seed(0)
    bert = save_bert(folder / "tiny-bert")
    config = _copy(BIOMED)
    config["model_cfg"]["text_cfg"] |= {"hf_model_name": str(bert), "hf_model_pretrained": False}
    model = open_clip.CustomTextCLIP(**config["model_cfg"])
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    (folder / "open_clip_config.json").write_text(json.dumps(BIOMED))
    save_tokenizer(bert, length=256)
    return folder


TENSORS = "open_clip_model.safetensors"


def _copy(config: dict[str, Any]) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(config))
    return copied


class Original:
    """The package as its authors call it, on a copy of the folder with the tokenizer in it."""

    def __init__(self, folder: Path, copy: Path) -> None:
        shutil.copytree(folder, copy)
        if (copy / "tiny-bert").exists():
            config = _copy(BIOMED)
            config["model_cfg"]["text_cfg"]["hf_model_name"] = str(copy / "tiny-bert")
            (copy / "open_clip_config.json").write_text(json.dumps(config))
            save_tokenizer(copy, length=256)
        name = f"local-dir:{copy}"
        self.model, self.preprocess = open_clip.create_model_from_pretrained(name)
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(name)

    def pixels(self, image: Image) -> torch.Tensor:
        found: torch.Tensor = self.preprocess(Pillow.fromarray(image))
        return found

    def image(self, image: Image) -> FloatArray:
        with torch.inference_mode():
            found: FloatArray = self.model.encode_image(self.pixels(image)[None]).numpy()
        return found

    def text(self, texts: Sequence[str]) -> FloatArray:
        with torch.inference_mode():
            found: FloatArray = self.model.encode_text(self.tokenizer(list(texts))).numpy()
        return found


@pytest.fixture(scope="module", params=[save_native, save_biomed], ids=["native", "biomed"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    saved: Path = request.param(tmp_path_factory.mktemp("open") / "tiny")
    return saved


@pytest.fixture(scope="module")
def original(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Original:
    return Original(folder, tmp_path_factory.mktemp("original") / "tiny")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> DualTower:
    return load(str(folder))


def load(model: str) -> DualTower:
    config = OpenClipConfig(model=model)
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    encoder = load_encoder(config, weights, Runtime(device="cpu"))
    assert isinstance(encoder, DualTower)
    return encoder


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )


@pytest.mark.parametrize(("height", "width"), [(1, 1), (32, 32), (40, 300), (224, 160)])
def test_pixels_and_image_features_are_the_packages(
    encoder: DualTower, original: Original, height: int, width: int
) -> None:
    image = noise(height, width)
    picture = encoder.prepare(image)
    mean, std = (torch.tensor(GREY[key])[:, None, None] for key in ("mean", "std"))
    level = (original.pixels(image) * std + mean) * 255
    np.testing.assert_allclose(picture.transpose(2, 0, 1), level.numpy(), atol=0.01)
    np.testing.assert_allclose(
        encoder.encode(picture[None]).pooled, original.image(image), atol=1e-5
    )


def test_text_features_are_the_packages(encoder: DualTower, original: Original) -> None:
    assert isinstance(encoder, TextEncoder)
    features = encoder.encode_text(TEXTS)
    np.testing.assert_allclose(features, original.text(TEXTS), atol=1e-5)
    assert not np.allclose(features[0], features[1], atol=1e-2)
    expected = float(torch.exp(-original.model.logit_scale.detach()))
    assert encoder.temperature == pytest.approx(expected)


def test_tokens_are_in_the_joint_space(encoder: DualTower, original: Original) -> None:
    image = noise(64, 64)
    visual = original.model.visual
    with torch.inference_mode():
        pixels = original.pixels(image)[None]
        if hasattr(visual, "trunk"):
            every = visual.head(visual.trunk.forward_features(pixels))
        else:
            hidden = visual.forward_intermediates(
                pixels, indices=[1], normalize_intermediates=True, output_fmt="NLC"
            )
            every = hidden["image_intermediates"][0] @ visual.proj
    found = encoder.encode(encoder.prepare(image)[None]).tokens
    assert found is not None
    assert encoder.token_grid is not None
    cells = encoder.token_grid[0] * encoder.token_grid[1]
    np.testing.assert_allclose(found, every[:, -cells:].numpy(), atol=1e-5)


def test_a_tower_that_pools_by_attention_has_no_tokens(tmp_path: Path) -> None:
    config = _copy(NATIVE)
    tower = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}
    config["model_cfg"]["vision_cfg"] = tower
    folder = save_native(tmp_path / "resnet", config)
    encoder, image = load(str(folder)), noise(50, 70)
    found = encoder.encode(encoder.prepare(image)[None])
    assert (found.tokens, encoder.token_grid) == (None, None)
    expected = Original(folder, tmp_path / "original").image(image)
    np.testing.assert_allclose(found.pooled, expected, atol=1e-5)


def _cached(cache: Path, repo: str, files: Path) -> None:
    """Puts a folder's files into a hub cache, as the hub's client lays it out."""
    root = cache / f"models--{repo.replace('/', '--')}"
    shutil.copytree(files, root / "snapshots" / "abc")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc")


def test_a_hub_model_needs_the_repository_of_its_text_tower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = save_biomed(tmp_path / "tiny")
    bert = shutil.move(folder / "tiny-bert", tmp_path / "bert")
    _cached(tmp_path / "hub", "acme/biomed", folder)
    config = OpenClipConfig(model="acme/biomed")
    assert find_weights(config, FileHashes(), download=False) is None
    _cached(tmp_path / "hub", BERT, Path(bert))
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    assert weights.identity.revision == "abc"
    assert {f"{BERT}/config.json", f"{BERT}/tokenizer.json"} <= weights.identity.files.keys()
    original = Original(save_biomed(tmp_path / "again"), tmp_path / "original")
    np.testing.assert_allclose(
        load("acme/biomed").encode_text(TEXTS), original.text(TEXTS), atol=1e-5
    )


def test_damage_is_one_sentence(tmp_path: Path) -> None:
    folder = save_native(tmp_path / "damaged")
    (folder / TENSORS).write_bytes(b"\xff" * 100)
    with pytest.raises(WeightsError, match="damaged do not load as a model of open_clip_torch"):
        load(str(folder))
    (folder / "open_clip_config.json").write_text("{}")
    with pytest.raises(WeightsError, match="is no configuration of open_clip_torch"):
        load(str(folder))
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(WeightsError, match=r"has no open_clip_config\.json"):
        load(str(folder))
