"""``models pull`` of every model of the table, in the layout that its repository has."""

import json
from pathlib import Path

import pytest

from medfocus_pipeline.commands.model_names import known, model_id
from tests.encoders.models import save_clip
from tests.hub.repositories import LISTINGS, as_pytorch, complete
from tests.hub.server import Hub
from tests.stages.conftest import Medfocus, medfocus

__all__ = ["medfocus"]

CLIP = "openai/clip-vit-base-patch16"
NAMED = sorted({name for one in known() if "/" in (name := model_id(one.config))})


def serve(hub: Hub, root: Path, repo: str) -> Path:
    """A repository of files of a few bytes each; enough where nothing is loaded."""
    folder = root / "served" / repo
    folder.mkdir(parents=True)
    if "open_clip_config.json" in LISTINGS[repo]["files"]:
        tower = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
        text = {"hf_model_name": tower, "hf_tokenizer_name": tower}
        config = {"model_cfg": {"text_cfg": text, "vision_cfg": {}}}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        serve(hub, root, tower)
    hub.repositories[repo] = complete(folder, repo)
    return folder


def test_every_model_of_the_table_has_a_listing_with_its_source() -> None:
    assert set(NAMED) <= set(LISTINGS)
    assert all(listing["source"].strip() for listing in LISTINGS.values())


@pytest.mark.parametrize("repo", NAMED)
def test_a_listed_repository_is_pulled_and_nothing_else_of_it(
    hub: Hub, medfocus: Medfocus, tmp_path: Path, repo: str
) -> None:
    listed = serve(hub, tmp_path, repo)
    if LISTINGS[repo].get("gated"):
        hub.gated.add(repo)
        answer = medfocus("models", "pull", repo)
        assert answer.code == 1
        assert "it is gated (accept its terms on the hub and run `hf auth login`)" in " ".join(
            answer.err.split()
        )
        hub.gated.clear()
    answer = medfocus("models", "pull", repo)
    assert answer.code == 0, answer
    assert hub.commit(repo) in answer.out
    got = set(hub.downloaded())
    assert got
    assert not [name for name in got if name.endswith((".h5", ".msgpack", ".yaml"))]
    assert not {"model.safetensors", "pytorch_model.bin"} <= got
    if (listed / "model.safetensors").is_file():
        assert "pytorch_model.bin" not in got
    hub.asked.clear()
    assert medfocus("models", "pull", repo).code == 0
    assert not hub.asked


def test_unknown_models_and_revisions_are_one_sentence(
    hub: Hub, medfocus: Medfocus, tmp_path: Path
) -> None:
    answer = medfocus("models", "pull", "openai/no-such-model")
    assert answer.code == 1
    assert "the hub has no such model, or it is private" in " ".join(answer.err.split())
    serve(hub, tmp_path, CLIP)
    answer = medfocus("models", "pull", CLIP, "--revision", "v9")
    assert answer.code == 1
    assert "the hub has no such revision of it" in " ".join(answer.err.split())


def test_a_repository_without_tensors_names_what_it_lacks(
    hub: Hub, medfocus: Medfocus, tmp_path: Path
) -> None:
    folder = serve(hub, tmp_path, CLIP)
    (folder / "pytorch_model.bin").unlink()
    answer = medfocus("models", "pull", CLIP)
    assert answer.code == 1
    assert "has no model.safetensors|" in " ".join(answer.err.split())
    assert not hub.downloaded()


def test_a_sharded_model_is_pulled_whole(hub: Hub, medfocus: Medfocus, tmp_path: Path) -> None:
    folder = as_pytorch(save_clip(tmp_path / "clip"), max_shard_size="40KB")
    hub.repositories["owner/clip"] = folder
    assert medfocus("models", "pull", "owner/clip").code == 0
    shards = {path.name for path in folder.glob("*.bin")}
    assert len(shards) > 1
    assert shards < set(hub.downloaded())


def test_a_download_that_broke_off_says_what_to_type_and_is_gone_on_with(
    hub: Hub, medfocus: Medfocus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = serve(hub, tmp_path, CLIP)
    (folder / "pytorch_model.bin").write_bytes(bytes(range(256)) * 400)
    # The library keeps what came in pieces of this size, and waits a second before each retry.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.breaks.add("pytorch_model.bin")
    answer = medfocus("models", "pull", CLIP)
    assert answer.code == 1
    told = " ".join(answer.err.split())
    assert f"run `medfocus models pull {CLIP}` again: it goes on with what has come" in told
    assert "Traceback" not in told

    hub.breaks.clear()
    hub.down = False
    hub.asked.clear()
    answer = medfocus("models", "pull", CLIP)
    assert answer.code == 0, answer
    ranges = [one.range for one in hub.asked if one.path.startswith("cdn/") and one.method == "GET"]
    assert ranges == ["bytes=50000-"]
    assert set(hub.downloaded()) == {"pytorch_model.bin"}
    (pulled,) = (tmp_path / "hub cache").rglob("snapshots/*/pytorch_model.bin")
    assert pulled.read_bytes() == (folder / "pytorch_model.bin").read_bytes()
    assert not list((tmp_path / "hub cache").rglob("*.incomplete"))


def test_a_download_that_came_damaged_is_not_kept(
    hub: Hub, medfocus: Medfocus, tmp_path: Path
) -> None:
    folder = serve(hub, tmp_path, CLIP)
    part = tmp_path / "hub cache" / f"models--{CLIP.replace('/', '--')}" / "blobs"
    part.mkdir(parents=True)
    digest = hub.sha256(CLIP, "pytorch_model.bin")
    (part / f"{digest}.medfocus.incomplete").write_bytes(b"not its start")
    answer = medfocus("models", "pull", CLIP)
    assert answer.code == 1
    assert "pytorch_model.bin came damaged and was deleted" in " ".join(answer.err.split())
    assert medfocus("models", "pull", CLIP).code == 0
    (pulled,) = (tmp_path / "hub cache").rglob("snapshots/*/pytorch_model.bin")
    assert pulled.read_bytes() == (folder / "pytorch_model.bin").read_bytes()
