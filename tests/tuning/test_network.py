"""What of a network is trained, and where a frozen part is computed once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay

from medfocus_pipeline.config import ClipConfig, Runtime, SamEncoderConfig
from medfocus_pipeline.config.tuning import FinetuneConfig, Trained
from medfocus_pipeline.encoders import find_weights, load_encoder
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.tuning.blocks import depths, last_block
from medfocus_pipeline.tuning.network import Network, build
from medfocus_pipeline.weights import FileHashes
from tests.encoders.models import save_clip, save_siglip
from tests.fakes import FakeEncoder
from tests.tuning.materials import RESNET, VIT, draw, loader


def network(folder: Path, trained: Trained, *, name: str = VIT) -> Network:
    encoder = loader(name, folder)()
    return build(encoder, FinetuneConfig(trained=trained), classes=2, label=name)


def pictures(made: Network, count: int = 3) -> np.ndarray:
    return np.stack([draw(n % 2, n, size=made.tower.side) for n in range(count)])


@pytest.mark.parametrize("name", [VIT, RESNET])
@pytest.mark.parametrize("trained", ["layer", "last_block", "all"])
def test_a_part_that_is_computed_once_changes_no_logit(
    name: str, trained: Trained, tmp_path: Path
) -> None:
    made = network(tmp_path, trained, name=name)
    torch.nn.init.normal_(made.layer.weight)
    images = pictures(made)

    found = made.logits(made.inputs(images))

    whole = made.layer(torch.nn.functional.normalize(made.tower.embed(torch.from_numpy(images))))
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)
    assert made.computed_once == (trained != "all")


@pytest.mark.parametrize(("name", "first"), [(VIT, "network.blocks."), (RESNET, "network.layer4.")])
def test_the_last_block_alone_is_trained(name: str, first: str, tmp_path: Path) -> None:
    made = network(tmp_path, "last_block", name=name)
    names = [one for one in made.rates if not one.startswith("layer.")]

    model = timm.create_model(name, pretrained=False)
    block = last_block([one for one, _ in model.named_parameters()])
    assert names[0].startswith(first)
    assert {one.removeprefix("network.") for one in names} >= {
        f"{block}.{one}" for one, _ in model.get_submodule(block).named_parameters()
    }
    assert not any(one.startswith(("network.head", "network.fc.")) for one in names)


def test_every_trained_tensor_gets_a_gradient(tmp_path: Path) -> None:
    for trained in ("layer", "last_block", "lora", "all"):
        made = network(tmp_path, trained)
        torch.nn.init.normal_(made.layer.weight)
        made.logits(made.inputs(pictures(made)))[:, 0].sum().backward()
        assert all(one.grad is not None for one in made.parameters().values()), trained


def test_blocks_are_as_deep_as_timm_says() -> None:
    model = timm.create_model(VIT, pretrained=False)
    groups = param_groups_layer_decay(model, layer_decay=0.5)
    scale = {id(one): group["lr_scale"] for group in groups for one in group["params"]}
    names = [name for name, _ in model.named_parameters()]
    found = depths(names)
    by_theirs = sorted(names, key=lambda name: scale[id(model.get_parameter(name))])
    blocks = [name for name in by_theirs if name.startswith("blocks.")]
    assert [found[name] for name in blocks] == sorted(found[name] for name in blocks)
    assert found["patch_embed.proj.weight"] == 0
    assert found["norm.weight"] > max(found[name] for name in blocks)


def test_lora_trains_small_matrices_beside_attention_and_starts_as_the_network_is(
    tmp_path: Path,
) -> None:
    made = network(tmp_path, "lora")
    names = [one for one in made.rates if not one.startswith("layer.")]
    assert names
    assert all("attn" in one and "lora_" in one for one in names)
    images = pictures(made)
    plain = loader(VIT, tmp_path)().encode(images).pooled
    np.testing.assert_allclose(
        made.embeddings(made.inputs(images)),
        plain / np.linalg.norm(plain, axis=1, keepdims=True),
        atol=1e-5,
    )


@pytest.mark.parametrize("save", [save_clip, save_siglip])
@pytest.mark.parametrize("trained", ["last_block", "lora", "all"])
def test_of_a_dual_encoder_the_image_tower_is_trained(
    save: Callable[[Path], Path], trained: Trained, tmp_path: Path
) -> None:
    config = ClipConfig(model=str(save(tmp_path / "model")))
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    encoder = load_encoder(config, weights, Runtime(device="cpu"))
    made = build(encoder, FinetuneConfig(trained=trained), classes=2, label="clip")
    torch.nn.init.normal_(made.layer.weight)
    images = pictures(made)
    found = made.logits(made.inputs(images))
    whole = made.layer(torch.nn.functional.normalize(made.tower.embed(torch.from_numpy(images))))
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)
    found.sum().backward()
    assert all(one.grad is not None for one in made.parameters().values())
    assert not any("text" in name for name in made.rates)


def test_a_network_that_looks_back_behind_its_last_block_is_run_whole() -> None:
    config = SamEncoderConfig()  # a SAM 2, whose neck sees the maps of every stage
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    encoder = load_encoder(config, weights, Runtime(device="cpu"))
    made = build(encoder, FinetuneConfig(trained="last_block"), classes=2, label="sam")
    assert made.entry is None
    assert not made.computed_once


def test_lora_of_a_network_without_attention_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no attention, which LoRA adapts"):
        network(tmp_path, "lora", name=RESNET)


def test_an_encoder_without_a_network_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="shows no network"):
        build(FakeEncoder(), FinetuneConfig(), classes=2, label="fake")
