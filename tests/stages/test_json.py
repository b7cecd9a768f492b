"""``--json``: what a command says, for programs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.stages.conftest import Medfocus


@pytest.fixture
def cache(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished / "cache", tmp_path / "cache"))


def facts(medfocus: Medfocus, *arguments: str) -> Any:
    answer = medfocus(*arguments, "--json")
    assert answer.code == 0, answer
    return json.loads(answer.out)


def test_status_says_of_each_stage_how_far_it_is(medfocus: Medfocus, cache: Path) -> None:
    found = facts(medfocus, "status", "shapes")
    stages = {state["stage"]: state for state in found["states"]}
    assert list(stages) == ["scan", "masks", "embed", "probe"]
    assert all(state["next"] == "nothing" for state in found["states"])
    assert (stages["masks"]["done"], stages["masks"]["planned"]) == (40, 40)
    assert (found["dataset"], found["profile"], found["problem"]) == ("shapes", "imagenet", None)


def test_the_stores_are_listed_with_rows_and_bytes(medfocus: Medfocus, cache: Path) -> None:
    rows = facts(medfocus, "cache", "ls")
    assert {row["stage"] for row in rows} >= {"masks", "embeddings"}
    assert all(row["rows"] == 40 and row["bytes"] > 0 for row in rows)
    assert all((cache / row["dataset"] / row["stage"] / row["store"]).is_dir() for row in rows)


def test_the_models_are_those_of_the_printed_list(medfocus: Medfocus) -> None:
    models = facts(medfocus, "models", "list")
    printed = medfocus("models", "list").out
    assert all(f"\n  {model['id']}" in printed for model in models)
    (clip,) = (one for one in models if one["id"] == "openai/clip-vit-base-patch16")
    assert (clip["kind"], clip["family"], clip["dimensions"]) == ("encoder", "clip", 512)
    assert clip["text"] is True


def test_doctor_names_what_each_profile_lacks(medfocus: Medfocus) -> None:
    found = json.loads(medfocus("doctor", "--profile", "imagenet", "--json").out)
    assert found["profiles"]["imagenet"] == []
    assert {check["what"] for check in found["checks"]} >= {"Python", "torch", "zarr"}


def test_scan_counts_the_images_and_names_what_is_left_out(done: Medfocus) -> None:
    broken = Path("images/train/disc/broken.png")
    broken.write_bytes(b"no picture")
    found = facts(done, "scan")
    assert {(one["split"], one["class"]): one["count"] for one in found["images"]} == {
        ("train", "disc"): 12,
        ("train", "square"): 12,
        ("test", "disc"): 8,
        ("test", "square"): 8,
    }
    assert (found["usable"], list(found["left_out"])) == (40, ["train/disc/broken.png"])


def test_audit_says_what_its_file_says(done: Medfocus) -> None:
    found = facts(done, "audit")
    assert found["leaked_test_images"] == 0
    assert {one["kind"] for one in found["findings"]} == {
        "bytes",
        "pixels",
        "perceptual",
        "embedding",
    }


def test_probe_says_the_table_and_results_say_each_run_by_any_metric(done: Medfocus) -> None:
    table = facts(done, "probe")
    means = {(row["row"], row["budget"]): row["mean"] for row in table["rows"]}
    runs = facts(done, "results", "--metric", "accuracy", "--metric", "auroc_clean")
    assert {"run_key", "chosen", "accuracy", "auroc_clean"} <= set(runs[0])
    whole = [
        100 * run["accuracy"]
        for run in runs
        if (run["head"], run["focus"], run["fraction"]) == ("linear", "original", 100)
    ]
    assert means["linear on original", "100 %"] == round(sum(whole) / len(whole), 4)
    printed = done("results", "--metric", "ece").out
    assert "linear" in printed
    assert "ece" in printed
    unknown = done("results", "--metric", "aurok")
    assert (unknown.code, "Did you mean auroc?" in " ".join(unknown.err.split())) == (2, True)
