"""``medfocus finetune`` on the command line, and what becomes of its runs."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from medfocus_pipeline import Classifier
from medfocus_pipeline.datasets.readers import read_image
from tests.stages.conftest import Medfocus

FINETUNE = (
    *("finetune", "shapes", "--profile", "imagenet", "--model", "efficientnet-lite0"),
    *("--fractions", "100", "--seeds", "1", "--epochs", "3", "--trials", "2"),
    *("--set", "search.augmentation=[none]", "--set", "search.trained=[last_block]"),
)


def flip(path: Path) -> None:
    """One bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_fine_tuned_run_stands_beside_the_probe_and_its_export_says_the_same(
    medfocus: Medfocus, images: Path, tmp_path: Path
) -> None:
    answer = medfocus(*FINETUNE, "--data", images)
    assert answer.code == 0, answer
    assert "1 run trained" in answer.out
    for label in ("finetune:efficientnet-lite0", "linear on original.levels"):
        assert label in answer.out
    assert "worse than linear on original.levels: McNemar's test" in answer.out
    for heading in ("of its own images right, %", "Recall by class, %", "Trials: finetune:"):
        assert heading in answer.out
    results = tmp_path / "cache" / "shapes" / "results"
    rows = pq.read_table(results / "results.parquet").to_pylist()
    own = next(row for row in rows if row["head"] == "finetune")
    chosen = json.loads(own["chosen"])
    assert [one["trial"] for one in chosen["search"]["trials"]] == [0, 1]
    assert len(chosen["curves"]["validation_loss"]) >= chosen["epochs"] >= 1
    killed_late = tmp_path / "cache" / "shapes" / "tuning" / "inputs" / "last_block-plain"
    killed_late.parent.mkdir()
    killed_late.write_bytes(bytes(8))
    checkpoint = killed_late.parents[1] / own["run_key"][:16] / "checkpoint.pt"
    checkpoint.write_bytes(bytes(8))
    assert "all 1 run is done, nothing to do" in medfocus(*FINETUNE, "--data", images).out
    assert not killed_late.parent.exists()
    assert not checkpoint.exists()

    answer = medfocus("export", "shapes", "--head", "finetune", "--fraction", "100", "--out", "m")
    assert answer.code == 0, answer
    predictions = pq.read_table(results / "predictions.parquet").to_pylist()
    stored = {one["path"]: one for one in predictions if one["run_key"] == own["run_key"]}
    classifier = Classifier.load(tmp_path / "m")
    said = classifier.predict([read_image(images / path) for path in stored])
    for answered, one in zip(said, stored.values(), strict=True):
        np.testing.assert_allclose(answered.probabilities, one["probabilities"], atol=1e-5)
    [explained] = classifier.explain([read_image(images / next(iter(stored)))])
    assert explained.heat.max() > 0

    [tensors] = (tmp_path / "cache" / "shapes" / "tuning").glob("*/trained.safetensors")
    flip(tensors)
    answer = medfocus("export", "shapes", "--head", "finetune", "--fraction", "100", "--out", "m2")
    assert answer.code == 1
    assert "Run: medfocus cache verify --repair, then run: make finetune" in answer.err
    told = medfocus("cache", "verify", "shapes", "--repair")
    assert f"{tensors.name} is not the file that run.json names. Run: medfocus finetune" in told.out
    assert "1 run trained" in medfocus(*FINETUNE, "--data", images).out
    assert medfocus("cache", "verify", "shapes").code == 0


def test_what_a_network_has_not_is_one_sentence_before_anything_is_embedded(
    medfocus: Medfocus, images: Path, tmp_path: Path
) -> None:
    answer = medfocus(*FINETUNE, "--data", images, "--what", "lora")
    assert answer.code == 2
    assert "efficientnet-lite0 has no attention, which LoRA adapts." in answer.err
    assert answer.err.strip().count("\n") == 0
    assert not (tmp_path / "cache" / "shapes" / "embeddings").exists()


def test_one_image_of_a_class_is_one_sentence(medfocus: Medfocus, images: Path) -> None:
    answer = medfocus(*FINETUNE[:6], "--data", images, "--shots", "1")
    assert answer.code == 1
    assert "fine-tuning needs two of each class" in answer.err
    assert answer.err.strip().count("\n") == 0


def test_no_budget_at_all_is_one_sentence(medfocus: Medfocus, images: Path) -> None:
    answer = medfocus(*FINETUNE[:6], "--data", images, "--set", "fractions=[]")
    assert answer.code == 2
    assert "expected at least one of fractions and shots, got neither" in answer.err


def test_the_papers_networks_are_named_where_their_weights_are_missing(
    medfocus: Medfocus, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    rows = ("--data", images, "--profile", "imagenet", "--rows", "finetune")
    answer = medfocus("reproduce", "shapes", *rows)
    assert answer.code == 1
    for name in (
        *(
            "resnet50.a1_in1k",
            "res2net50_26w_4s.in1k",
            "vit_base_patch16_224.augreg2_in21k_ft_in1k",
        ),
        *("swin_base_patch4_window7_224.ms_in22k_ft_in1k", "resnet18.a1_in1k"),
        "efficientnet_b0.ra_in1k",
    ):
        assert f"models pull timm/{name}" in answer.out
    assert (
        "There is no row finetune:foo"
        in medfocus("reproduce", "shapes", *rows[:-1], "finetune:foo").err
    )
