"""lite-clip: it loads anywhere, tells phantoms apart, and can be learned on."""

import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from medfocus_pipeline.config import EfficientNetLiteConfig, LiteClipConfig, Runtime
from medfocus_pipeline.datasets.phantoms.phantom import KINDS, draw
from medfocus_pipeline.devices import calls_at_once
from medfocus_pipeline.encoders import (
    Encoder,
    TextEncoder,
    find_weights,
    has_text,
    load_encoder,
    model_id,
)
from medfocus_pipeline.encoders.clip import ClipEncoder
from medfocus_pipeline.encoders.lite_clip import SHA256, SHIPPED
from medfocus_pipeline.errors import ConfigError, WeightsError
from medfocus_pipeline.files import sha256
from medfocus_pipeline.training.prompts import zero_shot_accuracy
from medfocus_pipeline.weights import FileHashes
from tests.side_by_side import alone_and_together

CPU = Runtime(device="cpu")
TEXTS = ["a chest X-ray of tuberculosis.", "a benign breast lesion", "xylophone"]


def load(config: LiteClipConfig) -> ClipEncoder:
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    encoder = load_encoder(config, weights, CPU)
    assert isinstance(encoder, ClipEncoder)
    return encoder


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    return load(LiteClipConfig())


@pytest.fixture(scope="module")
def pictures(encoder: ClipEncoder) -> np.ndarray:
    return np.stack([encoder.prepare(draw(kind, 3, 1).image) for kind in KINDS])


def test_the_files_are_those_that_were_released() -> None:
    assert {path.name: sha256(path) for path in SHIPPED.iterdir()} == SHA256
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 12_000_000


def test_it_loads_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert load(LiteClipConfig()).encode_text(["a brain MRI"]).shape == (1, 1280)


def test_it_is_a_dual_encoder(encoder: ClipEncoder, pictures: np.ndarray) -> None:
    assert isinstance(encoder, TextEncoder)
    assert has_text(LiteClipConfig())
    assert model_id(LiteClipConfig()) == "lite-clip"
    encoded = encoder.encode(pictures)
    assert (encoder.dim, encoder.token_grid) == (1280, (7, 7))
    assert encoded.pooled.shape == (4, 1280)
    assert encoded.tokens is not None
    assert encoded.tokens.shape == (4, 49, 1280)
    assert encoded.pooled.dtype == encoded.tokens.dtype == np.float32
    assert 0 < encoder.temperature < 1


def test_embeddings_are_the_networks_so_that_no_head_on_them_loses(
    encoder: ClipEncoder, pictures: np.ndarray
) -> None:
    config = EfficientNetLiteConfig()
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    bare, own = load_encoder(config, weights, CPU).encode(pictures), encoder.encode(pictures)
    np.testing.assert_array_equal(own.pooled, bare.pooled)
    assert own.tokens is not None
    assert bare.tokens is not None
    np.testing.assert_array_equal(own.tokens, bare.tokens)


def test_tokens_are_in_the_space_of_pooled(encoder: ClipEncoder, pictures: np.ndarray) -> None:
    encoded = encoder.encode(pictures)
    assert encoded.tokens is not None
    np.testing.assert_allclose(encoded.tokens.mean(axis=1), encoded.pooled, atol=1e-4)
    found = encoder.pool(pictures, np.full(pictures.shape[:3], 255, np.uint8))
    np.testing.assert_allclose(found["roi_pooled"], encoded.pooled, atol=1e-4)
    np.testing.assert_allclose(found["roi_levels"], found["levels"], atol=1e-4)


def test_a_text_does_not_depend_on_its_neighbours(encoder: ClipEncoder) -> None:
    together = encoder.encode_text([*TEXTS, "a very long text " * 40])[:3]
    alone = np.concatenate([encoder.encode_text([text]) for text in TEXTS])
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_array_equal(
        encoder.encode_text(["A Chest X-RAY"]), encoder.encode_text(["a chest x-ray"])
    )


def test_several_threads_get_what_one_gets(encoder: ClipEncoder, pictures: np.ndarray) -> None:
    inputs = [pictures, pictures[:1], pictures[::-1][:3]]
    for alone, together in alone_and_together(encoder.encode, inputs):
        np.testing.assert_array_equal(alone.pooled, together.pooled)


def test_the_place_in_a_batch_changes_no_bit_on_one_thread(
    encoder: ClipEncoder, pictures: np.ndarray
) -> None:
    with calls_at_once("cpu"):
        whole = encoder.encode(pictures).pooled
        for index in range(len(pictures)):
            alone = encoder.encode(pictures[index : index + 1]).pooled
            np.testing.assert_array_equal(whole[index : index + 1], alone)


def test_one_thread_and_two_say_the_same(encoder: ClipEncoder, pictures: np.ndarray) -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append((encoder.encode(pictures).pooled, encoder.encode_text(TEXTS)))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_gradients_reach_what_is_put_before_a_text(encoder: ClipEncoder) -> None:
    embeddings = encoder.text_tower.get_input_embeddings()
    context = torch.zeros(4, embeddings.embedding_dim, requires_grad=True)

    def put(_: object, __: object, words: torch.Tensor) -> torch.Tensor:
        return torch.cat([words[:, :1], words[:, 1:5] + context, words[:, 5:]], dim=1)

    hook = embeddings.register_forward_hook(put)
    try:
        texts = encoder.text_features(["x x x x glioma", "x x x x healthy lungs"])
        texts.square().sum().backward()
    finally:
        hook.remove()
        encoder.text_tower.zero_grad(set_to_none=True)
    assert context.grad is not None
    assert (context.grad.norm(dim=1) > 0).all()


COUNTS = {"brain": 12, "breast": 14, "covid": 12, "lungs": 12}
FLOORS = {"brain": 0.6, "breast": 0.6, "covid": 0.7, "lungs": 0.6}
"""Zero-shot accuracy on 50 phantoms that no training saw."""


@pytest.mark.parametrize("kind", KINDS)
def test_phantoms_are_told_apart_by_prompts_alone(encoder: ClipEncoder, kind: str) -> None:
    assert zero_shot_accuracy(encoder, kind, seed=1, count=COUNTS[kind]) >= FLOORS[kind]


def test_zero_shot_needs_a_text_tower() -> None:
    config = EfficientNetLiteConfig()
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    encoder: Encoder = load_encoder(config, weights, CPU)
    with pytest.raises(ConfigError, match="dual encoder"):
        zero_shot_accuracy(encoder, "brain", seed=1, count=1)


def copied(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    shutil.copytree(SHIPPED, folder)
    return folder


def test_a_local_folder_has_its_own_name(tmp_path: Path, encoder: ClipEncoder) -> None:
    config = LiteClipConfig(checkpoint=copied(tmp_path))
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    assert weights.identity.id == model_id(config) == "mine"
    assert len(weights.identity.files) == 4
    np.testing.assert_array_equal(load(config).encode_text(TEXTS), encoder.encode_text(TEXTS))


def test_released_files_that_changed_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(tmp_path)
    (folder / "config.json").write_text("{}")
    monkeypatch.setattr("medfocus_pipeline.encoders.lite_clip.SHIPPED", folder)
    with pytest.raises(WeightsError, match="are not those that MedFocus comes with"):
        find_weights(LiteClipConfig(), FileHashes(), download=False)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b'{"projection_dim": 64}'),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", b"no JSON"),
        ("model.safetensors", b"\xff" * 100),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    folder = copied(tmp_path)
    (folder / name).write_bytes(content)
    with pytest.raises(WeightsError, match="Weights of mine do not load as lite-clip") as caught:
        load(LiteClipConfig(checkpoint=folder))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match=r"has no tokenizer\.json"):
        find_weights(LiteClipConfig(checkpoint=folder), FileHashes(), download=False)
