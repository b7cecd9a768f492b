"""CLIP and SigLIP: what the adapter gives is what transformers gives."""

import json
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, Siglip2Tokenizer

from medfocus_pipeline.config import ClipConfig, EmbedConfig, Runtime
from medfocus_pipeline.embedding import array_specs, encode, prepare
from medfocus_pipeline.encoders import TextEncoder, find_weights, load_encoder
from medfocus_pipeline.encoders.clip import ClipEncoder
from medfocus_pipeline.encoders.fit import cover, fitted
from medfocus_pipeline.encoders.pooling import level_width, narrowed
from medfocus_pipeline.errors import ConfigError, WeightsError
from medfocus_pipeline.types import Image
from medfocus_pipeline.weights import FileHashes
from tests.hub.repositories import as_pytorch
from tests.side_by_side import alone_and_together

from .models import TEXT_LENGTH, save_clip, save_siglip

CPU = Runtime(device="cpu")
SIZES = [(1, 1), (32, 32), (36, 36), (40, 100), (100, 41), (7, 9), (224, 224), (33, 300)]
TEXTS = [
    "a photo of the brain",
    "tumor",
    "a scan of the lungs normal a photo of a breast",
]


@pytest.fixture(scope="module", params=[save_clip, save_siglip], ids=["clip", "siglip"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    save: Callable[[Path], Path] = request.param
    return save(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> ClipEncoder:
    return load(folder)


def load(folder: Path) -> ClipEncoder:
    config = ClipConfig(model=str(folder))
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    encoder = load_encoder(config, weights, CPU)
    assert isinstance(encoder, ClipEncoder)
    return encoder


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_image_features_equal_the_models_own(
    folder: Path, encoder: ClipEncoder, height: int, width: int
) -> None:
    image = noise(height, width)
    processor = AutoImageProcessor.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        pixels = processor(image, return_tensors="pt", input_data_format="channels_last")
        expected = model.get_image_features(**pixels).pooler_output
    encoded = encoder.encode(encoder.prepare(image)[None])
    np.testing.assert_allclose(encoded.pooled, expected.numpy(), atol=1e-5)


def test_text_features_equal_the_models_own(folder: Path, encoder: ClipEncoder) -> None:
    model = AutoModel.from_pretrained(folder).eval()
    siglip = model.config.model_type == "siglip"
    tokens = AutoTokenizer.from_pretrained(folder)(
        TEXTS,
        padding="max_length" if siglip else True,
        truncation=True,
        max_length=TEXT_LENGTH,
        return_tensors="pt",
    )
    if siglip:  # big_vision's text tower takes token ids and nothing else
        tokens = {"input_ids": tokens["input_ids"]}
    with torch.inference_mode():
        expected = model.get_text_features(**tokens).pooler_output
    assert isinstance(encoder, TextEncoder)
    features = encoder.encode_text(TEXTS)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-5)
    assert encoder.temperature == pytest.approx(float(torch.exp(-model.logit_scale.detach())))


@pytest.mark.parametrize("names", [["input_ids"], ["input_ids", "attention_mask"]])
def test_a_siglip_attends_to_its_padding_whatever_its_tokenizer_returns(
    tmp_path: Path, names: list[str]
) -> None:
    folder = save_siglip(tmp_path / "siglip")
    _edit(folder / "tokenizer_config.json", model_input_names=names)
    model = AutoModel.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(
        ["a photo of the brain"], padding="max_length", max_length=TEXT_LENGTH, return_tensors="pt"
    )
    assert list(tokens) == names
    mask = (tokens["input_ids"] != 0).long()
    with torch.inference_mode():
        expected = model.get_text_features(input_ids=tokens["input_ids"]).pooler_output
        masked = model.get_text_features(tokens["input_ids"], mask).pooler_output
    assert not torch.allclose(masked, expected, atol=1e-2)
    np.testing.assert_allclose(
        load(folder).encode_text(["a photo of the brain"]), expected.numpy(), atol=1e-5
    )


def test_texts_of_a_siglip_2_are_those_of_its_own_tokenizer_class(tmp_path: Path) -> None:
    # Its repositories have Gemma's tokenizer, which keeps capitals; the class lowers them.
    folder = save_siglip(tmp_path / "siglip2")
    letters = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "a", "b", "i", "n", "r", "▁"]
    vocabulary = {letter: place for place, letter in enumerate(letters)}
    own = Siglip2Tokenizer(vocab=vocabulary, padding_side="right")
    own.save_pretrained(folder)
    _edit(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    normal = json.loads((folder / "tokenizer.json").read_text())["normalizer"]
    [lower, spaces] = normal["normalizers"]
    assert lower == {"type": "Lowercase"}
    _edit(folder / "tokenizer.json", normalizer=spaces)
    texts = ["a Brain", "A BRAIN", "a brain"]
    tokens = own(texts, padding="max_length", max_length=TEXT_LENGTH, return_tensors="pt")
    model = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = model.get_text_features(input_ids=tokens["input_ids"]).pooler_output
    kept = AutoTokenizer.from_pretrained(folder)
    assert kept("Brain")["input_ids"] != kept("brain")["input_ids"]
    np.testing.assert_allclose(load(folder).encode_text(texts), expected.numpy(), atol=1e-5)


def test_a_tokenizer_that_needs_a_package_says_which(tmp_path: Path) -> None:
    # As google/siglip-so400m-patch14-224 has it: spiece.model, and no tokenizer.json.
    folder = save_siglip(tmp_path / "siglip")
    (folder / "tokenizer.json").unlink()
    (folder / "spiece.model").write_bytes(b"")
    _edit(folder / "tokenizer_config.json", tokenizer_class="SiglipTokenizer")
    with pytest.raises(ConfigError, match="pip install sentencepiece protobuf"):
        load(folder)


def test_clip_tokens_are_in_the_joint_space(tmp_path: Path) -> None:
    folder = save_clip(tmp_path / "clip")
    encoder, model = load(folder), AutoModel.from_pretrained(folder).eval()
    picture = encoder.prepare(noise(32, 32))
    with torch.inference_mode():
        pixels = AutoImageProcessor.from_pretrained(folder)(picture, return_tensors="pt")
        output = model.vision_model(**pixels)
        tokens = model.visual_projection(
            model.vision_model.post_layernorm(output.last_hidden_state)
        )
    encoded = encoder.encode(picture[None])
    assert encoded.tokens is not None
    np.testing.assert_allclose(encoded.pooled[0], tokens[0, 0].numpy(), atol=1e-5)
    np.testing.assert_allclose(encoded.tokens, tokens[:, 1:].numpy(), atol=1e-5)


def test_shapes_are_announced(folder: Path, encoder: ClipEncoder) -> None:
    side, dim = (32, 24) if len(encoder.prepare(noise(9, 9))) == 32 else (36, 32)
    picture = encoder.prepare(noise(50, 20))
    assert (picture.shape, picture.dtype) == ((side, side, 3), np.uint8)
    encoded = encoder.encode(np.stack([picture, picture]))
    assert encoder.token_grid == (4, 4)
    assert encoded.pooled.shape == (2, encoder.dim) == (2, dim)
    assert encoded.tokens is not None
    assert encoded.tokens.shape == (2, 16, dim)
    assert encoded.pooled.dtype == encoded.tokens.dtype == np.float32


def test_read_only_images_are_taken_without_a_warning(encoder: ClipEncoder) -> None:
    image = noise(40, 50)
    image.flags.writeable = False
    picture = encoder.prepare(image)
    picture.flags.writeable = False
    encoder.encode(picture[None])


def test_several_threads_get_what_one_gets(encoder: ClipEncoder) -> None:
    side = len(encoder.prepare(noise(9, 9)))
    rng = np.random.default_rng(5)
    inputs = [rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8) for n in (1, 3, 6)]
    for alone, together in alone_and_together(encoder.encode, inputs):
        np.testing.assert_array_equal(alone.pooled, together.pooled)


def test_prepare_may_run_in_several_threads(encoder: ClipEncoder) -> None:
    images = [noise(20 + side, 60) for side in range(24)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(encoder.prepare, images))
    np.testing.assert_array_equal(together, [encoder.prepare(image) for image in images])


@settings(deadline=None, max_examples=40)
@given(data=st.data(), height=st.integers(8, 90), width=st.integers(8, 90))
def test_a_painted_mask_lands_in_the_pixels_that_its_cover_says(
    encoder: ClipEncoder, data: st.DataObject, height: int, width: int
) -> None:
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    mask = np.zeros((height, width), bool)
    mask[top : data.draw(st.integers(top + 1, height)), left:] = True
    picture = encoder.prepare(np.where(mask[:, :, None], np.uint8([200, 100, 50]), np.uint8(0)))
    found = cover(mask, encoder, "crop")
    assert (found.shape, found.dtype) == (picture.shape[:2], np.uint8)
    cells, painted = (
        plane[:32, :32].reshape(4, 8, 4, 8).mean(axis=(1, 3)) / most
        for plane, most in ((found, 255), (picture[..., 0], 200))
    )
    # Bicubic overshoot is clipped at 255 for the mask, not at 200 for the paint.
    np.testing.assert_allclose(cells, painted, atol=0.12)
    np.testing.assert_array_equal(cover(np.ones_like(mask), encoder, "crop"), 255)
    np.testing.assert_array_equal(cover(np.zeros_like(mask), encoder, "crop"), 0)


def test_identity_of_a_folder_is_its_name_and_bytes(folder: Path) -> None:
    weights = find_weights(ClipConfig(model=str(folder)), FileHashes(), download=False)
    assert weights is not None
    assert weights.identity.id == "tiny"
    assert weights.identity.revision is None
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= weights.identity.files.keys()


def test_sharded_safetensors_are_all_in_the_identity_and_loaded(tmp_path: Path) -> None:
    folder = save_clip(tmp_path / "whole")
    model = AutoModel.from_pretrained(folder)
    sharded = save_clip(tmp_path / "sharded")
    (sharded / "model.safetensors").unlink()
    model.save_pretrained(sharded, max_shard_size="40KB")
    weights = find_weights(ClipConfig(model=str(sharded)), FileHashes(), download=False)
    assert weights is not None
    shards = [name for name in weights.identity.files if name.startswith("model-")]
    assert len(shards) > 1
    picture = noise(32, 32)[None]
    np.testing.assert_array_equal(
        load(sharded).encode(picture).pooled, load(folder).encode(picture).pooled
    )
    (sharded / shards[0]).unlink()
    with pytest.raises(WeightsError, match=f"has no {shards[0]}"):
        load(sharded)
    (sharded / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(WeightsError, match="is no index of tensors"):
        load(sharded)


def test_hub_model_is_found_only_when_cached() -> None:
    config = ClipConfig(model="medfocus-tests/no-such-model")
    assert find_weights(config, FileHashes(), download=False) is None


@pytest.mark.parametrize("model", ["./no/such", "~/no-such", "/no/such/folder", "a/b/c"])
def test_missing_folder_is_reported(model: str) -> None:
    with pytest.raises(WeightsError, match=r"Model folder .* has no config\.json"):
        find_weights(ClipConfig(model=model), FileHashes(), download=False)


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def _garble(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)


def _drop_tensors(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop("visual_projection.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _other_sizes(folder: Path) -> None:
    _edit(folder / "config.json", projection_dim=16)


def _other_architecture(folder: Path) -> None:
    _edit(folder / "config.json", model_type="bert")


def _no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def _no_fixed_square(folder: Path) -> None:
    for path in folder.glob("*processor_config.json"):
        path.write_text(
            path.read_text().replace('"do_center_crop": true', '"do_center_crop": false')
        )


@pytest.mark.parametrize(
    "damage",
    [
        _truncate,
        _garble,
        _drop_tensors,
        _other_sizes,
        _other_architecture,
        _no_json,
        _no_tokenizer,
        _no_fixed_square,
    ],
)
def test_damaged_folder_is_one_sentence(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    folder = save_clip(tmp_path / "damaged")
    damage(folder)
    with pytest.raises(WeightsError, match="Weights of damaged do not load as a CLIP") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", ["5GB", "40KB"])
def test_pytorch_files_give_what_safetensors_give(tmp_path: Path, size: str) -> None:
    safe = save_clip(tmp_path / "safe")
    pickled = as_pytorch(save_clip(tmp_path / "pickled"), max_shard_size=size)
    weights = find_weights(ClipConfig(model=str(pickled)), FileHashes(), download=False)
    assert weights is not None
    tensors = [name for name in weights.identity.files if name.endswith(".bin")]
    assert (tensors == ["pytorch_model.bin"]) is (size == "5GB")
    assert set(tensors) == {path.name for path in pickled.glob("*.bin")}
    picture = noise(32, 32)[None]
    np.testing.assert_array_equal(
        load(pickled).encode(picture).pooled, load(safe).encode(picture).pooled
    )


class Calls:
    """Unpickled without care, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("size", ["5GB", "40KB"])
def test_a_file_that_asks_for_more_than_tensors_is_refused_by_name(
    tmp_path: Path, size: str
) -> None:
    folder = as_pytorch(save_clip(tmp_path / "pickled"), max_shard_size=size)
    victim = sorted(folder.glob("*.bin"))[-1]
    tensors = torch.load(victim, weights_only=True)
    torch.save(tensors | {"more": Calls(tmp_path / "called")}, victim)
    with pytest.raises(WeightsError, match=rf"{victim.name} asks for \w+\.mkdir.*safetensors"):
        load(folder)
    assert not (tmp_path / "called").exists()


def test_safetensors_are_preferred(tmp_path: Path) -> None:
    folder = save_clip(tmp_path / "both")
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    weights = find_weights(ClipConfig(model=str(folder)), FileHashes(), download=False)
    assert weights is not None
    assert "pytorch_model.bin" not in weights.paths
    load(folder)


def test_levels_are_means_of_the_hidden_states_patches(encoder: ClipEncoder) -> None:
    """After each quarter of the blocks, through the tower's last layer norm."""
    picture = encoder.prepare(np.random.default_rng(5).integers(0, 256, (60, 80, 3), np.uint8))
    vision = encoder.text_tower.vision_model
    pixels = (
        (torch.from_numpy(picture[None]).float() - encoder.model.mean) / encoder.model.std
    ).permute(0, 3, 1, 2)
    with torch.inference_mode():
        states = vision(pixel_values=pixels, output_hidden_states=True).hidden_states[1:]
        prefix = 1 if encoder.text_tower.config.model_type == "clip" else 0
        means = [vision.post_layernorm(state[0, prefix:]).mean(dim=0) for state in states]
    means = [narrowed(mean, level_width(encoder.dim)) for mean in means]
    expected = torch.cat([mean / mean.norm() for mean in means])
    assert len(states) <= 4, "each block's output is a level"
    np.testing.assert_allclose(encoder.pool(picture[None], None)["levels"][0], expected, atol=1e-4)


def test_a_store_with_every_part_has_at_most_four_times_the_bytes(encoder: ClipEncoder) -> None:
    def size(config: EmbedConfig, *names: str) -> int:
        specs = array_specs(config, encoder)
        return sum(math.prod(spec.shape) for spec in specs if not names or spec.name in names)

    config = EmbedConfig(focus="original", roi_parts=True)
    assert size(config) <= 4 * size(config, "pooled")


def test_a_store_keeps_the_mean_of_the_views_levels(encoder: ClipEncoder) -> None:
    config = EmbedConfig(focus="original", views=("identity", "hflip"))
    image = np.random.default_rng(6).integers(0, 256, (60, 80, 3), np.uint8)
    found = encode([prepare(image, None, config, encoder)], encoder).arrays
    pictures = np.stack([fitted(one, encoder, config.fit) for one in (image, image[:, ::-1])])
    expected = encoder.pool(pictures, None)["levels"].mean(axis=0)
    assert found["pooled"].shape[:2] == (1, 2)
    np.testing.assert_allclose(found["levels"][0], [expected], atol=1e-3)
