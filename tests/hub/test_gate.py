"""MediCLIP's own model, CLIP ViT-B/32, whole through a hub: its architecture, random weights."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.encoders.models import save_clip
from tests.hub.backbones import serve_timm
from tests.hub.repositories import as_pytorch, complete
from tests.hub.server import Hub
from tests.stages.conftest import Medfocus, medfocus

__all__ = ["medfocus"]

REPO = "openai/clip-vit-base-patch32"
PROFILE = f"""
masks: {{ segmenter: {{ name: threshold }} }}
embed:
  encoder: {{ name: clip, model: {REPO} }}
  focus: [original]
  fit: crop
  views: [identity]
"""


def make_images(root: Path) -> None:
    """The folders of MediCLIP's data set, as its code reads them."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 4), ("test", 4)):
        for side, name in enumerate(("Medical", "Non-Medical")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 120, (40, 40, 3)) + 130 * side
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.jpg")


NETWORKS = ("resnet18.a1_in1k", "efficientnet_b0.ra_in1k")


def test_the_gate_and_its_table_run_on_clip_b_32(
    hub: Hub, tmp_path: Path, medfocus: Medfocus, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_pytorch(save_clip(tmp_path / "served" / REPO, length=77))
    hub.repositories[REPO] = complete(tmp_path / "served" / REPO, REPO)
    serve_timm(hub, tmp_path / "served", NETWORKS, monkeypatch)
    make_images(tmp_path / "images")
    Path("mine.yaml").write_text(PROFILE)
    asked = ("mediclip", "--data", "images", "--profile", "mine.yaml")
    absent = medfocus("scan", *asked, "--gate")
    assert absent.code == 1
    assert f"medfocus models pull {REPO}" in absent.err
    networks = ("--networks", ",".join(f"timm/{name}" for name in NETWORKS))
    gate = ("gate", *asked, "--methods", "mahalanobis", *networks, "--set", "network.epochs=2")
    absent = medfocus(*gate)
    assert absent.code == 0, absent
    for name in NETWORKS:
        assert f"fine-tuned {name}: weights are not on this machine" in absent.out
        assert f"medfocus models pull timm/{name}" in absent.out
    assert medfocus("models", "pull", *(f"timm/{name}" for name in NETWORKS)).code == 0
    answer = medfocus(*gate)
    assert answer.code == 0, answer
    assert "needs weights" not in answer.out
    table = pq.read_table("cache/mediclip/gate/gate.parquet").to_pandas()
    assert list(dict.fromkeys(table["method"])) == [
        "zero-shot, sum over phrases",  # the card's own, MediCLIP's, is first
        "zero-shot, best phrase",
        "zero-shot, mean of phrases",
        "Mahalanobis",
        "linear probe",
        *(f"fine-tuned {name}" for name in NETWORKS),
    ]
    assert (table.groupby("method").size() == 28).all()
    assert table["score"].notna().all()
    keeps = ("--keep", "*.jpg")
    told = json.loads(medfocus("scan", *asked, "--gate", *keeps, "--json").out)
    assert told["gate"]["looked_at"] == 28
    rows = pq.read_table("cache/mediclip/manifest.parquet").to_pylist()
    known = {"X-ray", "MRI", "CT", "ultrasound", "histology", "any"}
    assert {row["looks_like"] for row in rows} <= known
    # The gate of a scan and the table's first line see the same: scores are equal but for float16.
    own = table[table["method"] == "zero-shot, sum over phrases"]
    scores = dict(zip(own["image_id"], own["score"], strict=True))
    assert {row["image_id"] for row in rows} == set(scores)
    for row in rows:
        assert row["gate_score"] == pytest.approx(scores[row["image_id"]], abs=0.02)
