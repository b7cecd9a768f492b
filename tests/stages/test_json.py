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
