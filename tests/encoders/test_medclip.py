"""MedCLIP-ViT: what the adapter gives is what its authors' code gives, on a tiny random file.

The authors' forward pass and preprocessing are written out from github.com/RyanWangZf/MedCLIP at
9c3396f, `medclip/modeling_medclip.py` and `medclip/dataset.py`; their package pins a transformers
of 2022, so that it cannot be installed beside ours.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, BertTokenizer, SwinConfig, SwinModel

from medfocus_pipeline.config import MedClipConfig, Runtime
from medfocus_pipeline.encoders import find_weights, load_encoder
from medfocus_pipeline.encoders.pooling import level_width, narrowed
from medfocus_pipeline.encoders.tower import DualTower
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.types import FloatArray, Image
from medfocus_pipeline.weights import FileHashes

from .models import WORDS

TEXTS = ["a photo of the brain", "Tumor", "a scan of the lungs normal a photo of a breast"]
LOG_SCALE = 5.0
"""Above the authors' limit."""


class Original:
    """The authors' model, with other sizes."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        swin = SwinConfig(embed_dim=32, depths=[1, 2, 2, 1], num_heads=[1, 2, 4, 8], mlp_ratio=2.0)
        bert = BertConfig(
            vocab_size=len(WORDS) + 5,
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=80,
            initializer_range=0.5,
        )
        self.swin, self.bert = SwinModel(swin).eval(), BertModel(bert).eval()
        self.image_head = torch.nn.Linear(256, 24, bias=False)
        self.text_head = torch.nn.Linear(128, 24, bias=False)
        self.tokenizer = BertTokenizer.from_pretrained(folder)

    def save(self, folder: Path) -> None:
        """As `torch.save` of the authors' state_dict, under the names of that transformers."""
        state: dict[str, torch.Tensor] = {"logit_scale": torch.tensor(LOG_SCALE)}
        for prefix, model in (("vision_model", self.swin), ("text_model", self.bert)):
            model.save_pretrained(folder / prefix)
            named = load_file(folder / prefix / "model.safetensors")
            state |= {f"{prefix}.model.{name}": tensor for name, tensor in named.items()}
        assert f"{BLOCK}.query.weight" in state  # the older name
        state["vision_model.projection_head.weight"] = self.image_head.weight.detach()
        state["text_model.projection_head.weight"] = self.text_head.weight.detach()
        state["text_model.model.embeddings.position_ids"] = torch.arange(80)[None]
        state[f"{BLOCK}.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
        torch.save(state, folder / "pytorch_model.bin")

    def encode_text(self, texts: list[str]) -> FloatArray:
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=77, return_tensors="pt"
        )
        with torch.inference_mode():
            states = self.bert(
                input_ids=tokens["input_ids"],
                attention_mask=tokens["attention_mask"],
                output_hidden_states=True,
            )["hidden_states"]
            stacked = torch.stack([states[1], states[2], states[-1]])
            embed = self.text_head(stacked.permute(1, 0, 2, 3).mean(2).mean(1))
            found: FloatArray = (embed / embed.norm(dim=-1, keepdim=True)).numpy()
        return found

    def pixels(self, image: Image) -> FloatArray:
        """One grey channel in [0, 1]."""
        picture = Pillow.fromarray(image).convert("L")
        x, y = picture.size
        size = max(224, x, y)
        square = Pillow.new("L", (size, size), 0)
        square.paste(picture, (int((size - x) / 2), int((size - y) / 2)))
        resized = square.resize((224, 224), resample=Pillow.Resampling.BICUBIC)
        return np.asarray(resized, dtype=np.float32) / 255

    def encode_image(self, image: Image) -> FloatArray:
        grey = (self.pixels(image) - 0.5862785803043838) / 0.27950088968644304
        with torch.inference_mode():
            batch = torch.from_numpy(grey)[None, None].repeat((1, 3, 1, 1))
            embed = self.image_head(self.swin(batch)["pooler_output"])
            found: FloatArray = (embed / embed.norm(dim=-1, keepdim=True)).numpy()
        return found


BLOCK = "vision_model.model.encoder.layers.0.blocks.0.attention.self"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("medclip")
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS)
    (made / "vocab.txt").write_text("\n".join(words) + "\n")
    return made


@pytest.fixture(scope="module")
def original(folder: Path) -> Original:
    made = Original(folder)
    made.save(folder)
    return made


@pytest.fixture(scope="module")
def encoder(folder: Path, original: Original) -> DualTower:
    del original  # it has written the file
    return load(folder)


def load(checkpoint: Path) -> DualTower:
    config = MedClipConfig(checkpoint=checkpoint)
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    assert weights.identity.files.keys() == {
        "pytorch_model.bin",
        "emilyalsentzer/Bio_ClinicalBERT/vocab.txt",
    }
    encoder = load_encoder(config, weights, Runtime(device="cpu"))
    assert isinstance(encoder, DualTower)
    return encoder


def pictures() -> list[Image]:
    rng = np.random.default_rng(0)
    sizes = ((90, 61, 3), (224, 224, 3), (180, 301, 3))
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]


def cosine(a: Any, b: Any) -> FloatArray:
    found: FloatArray = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return found


def test_pictures_are_prepared_as_the_authors_do(encoder: DualTower, original: Original) -> None:
    for image in pictures():
        prepared = encoder.prepare(image)
        assert prepared.shape == (224, 224, 3)
        wanted = original.pixels(image)[..., None] * 255
        assert np.abs(prepared.astype(np.float32) - wanted).max() <= 1


def test_images_are_those_of_the_authors(encoder: DualTower, original: Original) -> None:
    prepared = np.stack([encoder.prepare(image) for image in pictures()])
    found = encoder.encode(prepared)
    wanted = np.concatenate([original.encode_image(image) for image in pictures()])
    assert cosine(found.pooled, wanted).min() > 0.9999
    assert cosine(wanted[:1], wanted[1:2])[0] < 0.9999  # else nothing was compared
    assert found.tokens is not None
    np.testing.assert_allclose(found.tokens.mean(axis=1), found.pooled, rtol=0.001, atol=1e-5)


def test_texts_are_those_of_the_authors_one_by_one(encoder: DualTower, original: Original) -> None:
    together = encoder.encode_text(TEXTS)
    wanted = np.concatenate([original.encode_text([text]) for text in TEXTS])
    assert cosine(together, wanted).min() > 0.9999
    padded = original.encode_text(TEXTS)
    assert cosine(padded, wanted).min() < 0.9999  # why the adapter knows no batches


def test_the_temperature_has_the_authors_limit(encoder: DualTower) -> None:
    assert encoder.temperature == pytest.approx(np.exp(-4.6052), rel=1e-5)


def test_the_levels_are_the_stages_of_the_swin(encoder: DualTower, original: Original) -> None:
    assert encoder.level_dims == (18, 18, 18, 18)  # of 64, 128, 256 and 256 channels
    assert encoder.token_grid == (7, 7)
    image = pictures()[0]
    grey = torch.from_numpy((original.pixels(image) - 0.5862785803043838) / 0.27950088968644304)
    with torch.inference_mode():
        states = original.swin(grey.expand(1, 3, -1, -1), output_hidden_states=True)
    stages = [narrowed(stage, level_width(encoder.dim)) for stage in states.hidden_states[1:]]
    for level, wanted in zip(encoder.maps(encoder.prepare(image)[None]), stages, strict=True):
        np.testing.assert_allclose(level.reshape(wanted.shape), wanted, atol=1e-3)


def test_a_file_beside_its_tokenizer_will_do(folder: Path, encoder: DualTower) -> None:
    again = load(folder / "pytorch_model.bin")
    np.testing.assert_array_equal(again.encode_text(TEXTS[:1]), encoder.encode_text(TEXTS[:1]))


def test_what_is_no_medclip_vit_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "vocab.txt").write_text((folder / "vocab.txt").read_text())
    state = {"vision_model.model.conv1.weight": torch.zeros(1), "logit_scale": torch.zeros(())}
    torch.save(state, tmp_path / "pytorch_model.bin")  # as MedCLIP-ResNet's begins
    with pytest.raises(WeightsError, match="do not load as MedCLIP-ViT"):
        load(tmp_path)


def test_without_a_checkpoint_it_says_where_one_is() -> None:
    assert find_weights(MedClipConfig(), FileHashes(), download=False) is None
    with pytest.raises(WeightsError, match="authors link to"):
        find_weights(MedClipConfig(), FileHashes(), download=True)
