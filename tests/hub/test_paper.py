"""The paper's profile and ``reproduce`` from a hub: the real commands, tiny random models.

The architectures are those of the repositories, and so are the names and formats of the files.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml

from medfocus_pipeline.sam import sam2
from tests.encoders.models import save_clip
from tests.hub.backbones import PAPERS, SMALL, serve_timm
from tests.hub.repositories import as_pytorch, complete
from tests.hub.server import Hub
from tests.segmenters.conftest import tiny_config
from tests.segmenters.sam_models import write_sam
from tests.stages.conftest import Medfocus, medfocus

__all__ = ["medfocus"]

CLIP, SAM2 = "openai/clip-vit-base-patch16", "facebook/sam2.1-hiera-large"
SAM, MEDSAM = "facebook/sam-vit-base", "wanglab/medsam-vit-base"


def write_small_yaml(path: Path) -> Path:
    """The package's own YAML of SAM 2.1 large, memory and all, with other numbers alone.

    Large has 224 M parameters, this has 1 M.
    """
    import sam2 as package

    config = Path(package.__path__[0]) / "configs/sam2.1/sam2.1_hiera_l.yaml"
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    model, small = settings["model"], tiny_config()
    for name in ("image_encoder", "image_size"):
        model[name] = small[name]
    attention, encoder = model["memory_attention"], model["memory_encoder"]
    attention |= {"d_model": 64, "num_layers": 1}
    attention["layer"] |= {"d_model": 64, "dim_feedforward": 64}
    for name in ("self_attention", "cross_attention"):
        attention["layer"][name]["embedding_dim"] = 64
    encoder |= {"in_dim": 64}
    encoder["mask_downsampler"]["embed_dim"] = encoder["fuser"]["layer"]["dim"] = 64
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


@pytest.fixture
def served(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub with the models of the paper's profile and of two segmenters more."""
    pytest.importorskip("sam2", reason="the optional package sam2 is not installed")
    small = write_small_yaml(tmp_path / "small.yaml")
    monkeypatch.setattr(sam2, "_config_file", lambda _: small)
    root = tmp_path / "served"
    as_pytorch(save_clip(root / CLIP, length=77))
    model = sam2.random_model("large", seed=0)
    (root / SAM2).mkdir(parents=True)
    torch.save({"model": model.state_dict()}, root / SAM2 / "sam2.1_hiera_large.pt")
    write_sam(root / SAM)
    as_pytorch(write_sam(root / MEDSAM, seed=1))
    for repo in (CLIP, SAM2, SAM, MEDSAM):
        hub.repositories[repo] = complete(root / repo, repo)
    return hub


def run(medfocus: Medfocus, *arguments: Any) -> str:
    answer = medfocus(*arguments)
    assert answer.code == 0, answer
    return answer.out


def test_the_papers_profile_runs_from_what_the_hub_has(
    served: Hub, medfocus: Medfocus, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(medfocus, "phantom", "brain", "--train", 8, "--test", 4, "--size", 64, "--workers", 1)
    profile = ("--profile", "paper", "--cache", "one")
    assert SAM2 in run(medfocus, "models", "pull", SAM2, CLIP)
    assert "12 images in" in run(medfocus, "masks", "phantom-brain", *profile)
    assert "12 images in" in run(medfocus, "embed", *profile)
    few = ("--fractions", "100", "--seeds", "1", "--workers", "1")
    table = run(medfocus, "probe", *profile, *few)
    for row in ("linear on original", "fusion on segmented", "fusion on overlay"):
        assert row in table
    assert {"sam2.1_hiera_large.pt", "pytorch_model.bin"} <= set(served.downloaded())

    # Everything anew without a hub.
    served.asked.clear()
    served.down = True
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offline = ("--profile", "paper", "--cache", "two")
    run(medfocus, "masks", "phantom-brain", *offline)
    run(medfocus, "embed", *offline)
    again = run(medfocus, "probe", *offline, *few)
    assert _table(again) == _table(table)
    assert not served.asked


def _table(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if " on " in line and "linear" in line]


def test_reproduce_runs_every_row_whose_weights_the_hub_gave(
    served: Hub, medfocus: Medfocus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_timm(served, tmp_path / "served", PAPERS, monkeypatch)
    run(medfocus, "phantom", "brain", "--train", 8, "--test", 4, "--size", 64, "--workers", 1)
    run(medfocus, "models", "pull", *served.repositories)
    # The paper's profile, on one fraction of the training images.
    paper = Path(str(files("medfocus_pipeline") / "profiles" / "paper.yaml")).read_text()
    Path("paper-once.yaml").write_text(paper.replace("probe:", "probe:\n  fractions: [100]"))
    arguments = ("--profile", "paper-once.yaml", "--seeds", 1)
    out = run(medfocus, "reproduce", "phantom-brain", *arguments, "--workers", 1)
    lacking = {line.strip().split("  ")[0] for line in out.splitlines() if "needs weights" in line}
    # An adapter is on no hub: `medfocus train-adapter` makes it of the user's own images.
    assert lacking == {"SAM-Adapter, not SAM2"}
    for row in ("CoOp", "SAM, not SAM2", "MedSAM, not SAM2", "Swin-B, not CLIP, linear"):
        assert row in out
    for row in ("ResNet-50", "Res2Net-50", "ViT-B/16", "Swin-B"):
        assert f"{row}, linear" in out


def test_the_papers_networks_are_pulled_and_one_of_them_is_fine_tuned(
    hub: Hub, medfocus: Medfocus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_timm(hub, tmp_path / "served", SMALL, monkeypatch)
    run(medfocus, "phantom", "brain", "--train", 8, "--test", 4, "--size", 64, "--workers", 1)
    Path("once.yaml").write_text("probe: {fractions: [100]}\n")
    arguments = ("phantom-brain", "--profile", "once.yaml", "--seeds", 1)
    absent = medfocus("reproduce", *arguments, "--rows", "finetune")
    assert absent.code == 1
    for name in SMALL:
        assert f"medfocus models pull timm/{name}" in absent.out
    run(medfocus, "models", "pull", *hub.repositories)
    got = {one.path.partition("/resolve/")[0] for one in hub.asked if one.method == "GET"}
    assert {f"timm/{name}" for name in SMALL} <= {path.removeprefix("/") for path in got}

    out = run(medfocus, "reproduce", *arguments, "--rows", "finetune:vit")
    assert "1 run fitted" in out
    assert "ViT-B/16, fine-tuned" in out
    [row] = pq.read_table("cache/phantom-brain/results/results.parquet").to_pylist()
    assert (row["head"], row["n_train"], row["n_test"]) == ("finetune", 8, 4)
    assert "everything is done" in run(medfocus, "reproduce", *arguments, "--rows", "finetune:vit")
