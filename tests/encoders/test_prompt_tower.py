"""The opened text tower says what the encoder's own one says, and lets gradients through."""

import pickle
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medfocus_pipeline.config import ClipConfig, EncoderConfig, LiteClipConfig, Runtime, TimmConfig
from medfocus_pipeline.encoders import find_weights, has_prompts, load_encoder
from medfocus_pipeline.encoders.clip import ClipEncoder
from medfocus_pipeline.encoders.prompt_tower import PromptSource, open_tower
from medfocus_pipeline.encoders.text_transformer import PromptTower
from medfocus_pipeline.errors import ConfigError, DataError, WeightsError
from medfocus_pipeline.weights import FileHashes, Weights
from tests.encoders.models import TEXT_LENGTH, save_clip, save_siglip

TEXTS = ["a photo of the brain", "tumor", "a scan of the lungs normal a photo of a breast", ""]
NAMES = ["tumor", "normal breast", "lungs"]


def source(config: EncoderConfig, phrases: tuple[str, ...] = ("a tumor",)) -> PromptSource:
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    return PromptSource(config, weights, phrases)


def encoder_of(config: EncoderConfig) -> ClipEncoder:
    encoder = load_encoder(config, source(config).weights, Runtime(device="cpu"))
    assert isinstance(encoder, ClipEncoder)
    return encoder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ClipConfig:
    return ClipConfig(model=str(save_clip(tmp_path_factory.mktemp("clip") / "tiny")))


@pytest.fixture(scope="module", params=["clip", "lite-clip"])
def encoder(request: pytest.FixtureRequest, clip: ClipConfig) -> ClipEncoder:
    return encoder_of(clip if request.param == "clip" else LiteClipConfig())


@pytest.fixture(scope="module")
def tower(encoder: ClipEncoder) -> PromptTower:
    return open_tower(encoder)


def tensors(value: object) -> Iterator[torch.Tensor]:
    """Every tensor in a tower, at any depth."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from tensors(item)
    elif hasattr(value, "__dataclass_fields__"):
        for field in fields(value):
            yield from tensors(getattr(value, field.name))


def test_embeddings_of_a_text_say_what_the_text_says(
    encoder: ClipEncoder, tower: PromptTower
) -> None:
    rows, ends = tower.embed(TEXTS)
    assert rows.shape[::2] == (len(TEXTS), tower.width)
    assert rows.shape[1] == int(ends.max()) + 1 <= tower.length
    features = tower.encode(rows, ends)
    expected = encoder.encode_text(TEXTS)
    assert features.shape == (len(TEXTS), tower.dim) == expected.shape
    assert features.dtype == torch.float32
    scale = np.abs(expected).max()
    np.testing.assert_allclose(features.numpy() / scale, expected / scale, atol=1e-5)


def test_the_end_may_be_told_by_an_id_of_its_own(clip: ClipConfig) -> None:
    encoder = encoder_of(clip)
    encoder.text_tower.text_model.eos_token_id = 9  # the word "brain"
    tower = open_tower(encoder)
    texts = ["a photo of brain tumor", "brain"]
    np.testing.assert_allclose(
        tower.encode(*tower.embed(texts)).numpy(), encoder.encode_text(texts), atol=1e-5
    )


def test_sizes_are_those_of_the_model(encoder: ClipEncoder, tower: PromptTower) -> None:
    config = encoder.text_tower.text_model.config
    assert tower.width == config.hidden_size
    assert tower.length == config.max_position_embeddings
    assert tower.dim == encoder.encode_text(["a"]).shape[1]
    assert tower.temperature == encoder.temperature


def test_words_have_neither_start_nor_end(tower: PromptTower) -> None:
    rows, _ = tower.embed(["tumor"])
    words = tower.words("tumor")
    assert torch.equal(words[0], rows[0, 1])
    assert torch.equal(tower.words("tumor tumor"), torch.cat([words, words]))
    assert len(tower.words("")) == 0


def test_a_bundle_says_what_each_text_says_alone(tower: PromptTower) -> None:
    source = torch.Generator().manual_seed(0)
    context = torch.randn((3, 4, tower.width), generator=source)
    together = tower.encode_bundle(context, tower.bundle(NAMES, context=4))
    assert together.shape == (3, 3, tower.dim)
    for k, name in enumerate(NAMES):
        rows, ends = tower.embed([name])
        start, rest = (part.expand(3, -1, -1) for part in (rows[:, :1], rows[:, 1:]))
        alone = tower.encode(torch.cat([start, context, rest], dim=1), ends.expand(3) + 4)
        torch.testing.assert_close(together[:, k], alone, atol=1e-4, rtol=1e-4)


def test_words_as_context_say_what_the_whole_text_says(
    encoder: ClipEncoder, tower: PromptTower
) -> None:
    context = tower.words("a scan of the")
    bundle = tower.bundle(NAMES, context=len(context))
    features = tower.encode_bundle(context[None], bundle)[0].numpy()
    expected = encoder.encode_text([f"a scan of the {name}" for name in NAMES])
    np.testing.assert_allclose(features, expected, atol=1e-5 * np.abs(expected).max())


def test_gradients_reach_the_embeddings_and_only_them(tower: PromptTower) -> None:
    before = [one.clone() for one in tensors(tower)]
    rows, ends = tower.embed(["a tumor of the brain", "tumor"])
    rows.requires_grad_()
    torch.autograd.backward(tower.encode(rows, ends).square().sum())
    assert rows.grad is not None
    assert (rows.grad[0, : int(ends[0]) + 1].abs().amax(dim=1) > 0).all()
    assert (rows.grad[1, int(ends[1]) + 1 :] == 0).all(), "nothing behind the end counts"
    assert len(before) > 30
    for one, was in zip(tensors(tower), before, strict=True):
        assert not one.requires_grad
        assert one.grad is None
        assert torch.equal(one, was)


def test_a_slope_is_the_finite_difference(clip: ClipConfig) -> None:
    tower = doubled(open_tower(encoder_of(clip)))
    bundle = doubled(tower.bundle(NAMES, context=2))
    source = torch.Generator().manual_seed(0)
    context = torch.randn((1, 2, tower.width), generator=source, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda one: tower.encode_bundle(one, bundle)[:, :, :2], context.requires_grad_()
    )


def doubled(value: Any) -> Any:
    """The same value with float64 in place of float32."""
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, tuple):
        return tuple(doubled(item) for item in value)
    if hasattr(value, "__dataclass_fields__"):
        return replace(value, **{f.name: doubled(getattr(value, f.name)) for f in fields(value)})
    return value


def test_a_prompt_that_is_too_long_says_so(clip: ClipConfig) -> None:
    tower = source(clip).open()
    assert tower.bundle(["tumor"], context=TEXT_LENGTH - 2).ends.tolist() == [TEXT_LENGTH - 1]
    with pytest.raises(DataError, match=r"16 context tokens have up to 18 tokens.* takes 8"):
        tower.bundle(["tumor"], context=16)


def test_a_source_is_opened_once_also_after_its_journey_to_a_process(clip: ClipConfig) -> None:
    one = source(clip)
    two = pickle.loads(pickle.dumps(one))
    assert two == one
    assert two.open() is one.open()
    assert source(clip, ("another", "phrase")).open() is one.open(), "the phrases are not its own"
    assert len(pickle.dumps(one)) < 5_000


def test_a_tower_that_was_opened_for_inference_can_be_trained_on(tmp_path: Path) -> None:
    fresh = source(ClipConfig(model=str(save_clip(tmp_path / "fresh"))))
    with torch.inference_mode():
        tower = fresh.open()
    context = torch.zeros((1, 2, tower.width), requires_grad=True)
    slope = torch.autograd.grad(
        tower.encode_bundle(context, tower.bundle(["tumor"], context=2)).sum(), context
    )
    assert slope[0].abs().sum() > 0


def test_siglip_is_refused_by_name(tmp_path: Path) -> None:
    siglip = source(ClipConfig(model=str(save_siglip(tmp_path / "my-siglip"))))
    assert not has_prompts(siglip.config, siglip.weights)
    with pytest.raises(ConfigError, match="my-siglip has no text tower that takes embeddings"):
        siglip.open()


def test_which_encoders_have_a_prompt_tower_is_known_without_loading(clip: ClipConfig) -> None:
    nothing = Weights(source(clip).weights.identity, {})
    assert has_prompts(clip, source(clip).weights)
    assert has_prompts(LiteClipConfig(), nothing)
    assert not has_prompts(TimmConfig(model="resnet50"), nothing)


def test_damaged_weights_are_one_sentence(tmp_path: Path) -> None:
    broken = source(ClipConfig(model=str(save_clip(tmp_path / "broken"))))
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"no model")
    with pytest.raises(WeightsError, match="Weights of broken do not load"):
        broken.open()
