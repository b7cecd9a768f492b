"""Made-up sets that went wrong once, as ``../shared/cases`` draws them; skipped where it is absent.

Of 01 and 02 no honest pipeline tells more than chance; 03 has the classes healthy and tumour.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.stages.conftest import Medfocus

CASES = Path(__file__).parents[3] / "shared" / "cases"


def made(name: str, folder: Path, *arguments: str) -> Path:
    """What a script of the cases draws, in a folder."""
    if not CASES.is_dir():
        pytest.skip("../shared/cases is not beside the repository")
    subprocess.run(
        [sys.executable, CASES / f"{name}.py", folder, *arguments],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return folder


def facts(medfocus: Medfocus, *command: str | Path) -> Any:
    answer = medfocus(*command, "--json")
    assert answer.code == 0, answer
    return json.loads(answer.out)


def classes(scanned: Any) -> dict[str, int]:
    return {one["class"]: one["count"] for one in scanned["images"]}


@pytest.mark.parametrize("arguments", [(), ("masks-folder",)], ids=["beside", "in a folder"])
def test_annotation_masks_are_no_images(
    medfocus: Medfocus, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    data = made("01_masks_beside_images", tmp_path / "busi", *arguments)
    scanned = facts(medfocus, "scan", "busi", "--data", data, "--profile", "imagenet")
    assert classes(scanned) == {"benign": 24, "malignant": 24}
    assert len(scanned["left_out"]) == 48
    assert all("is taken for the annotation mask of" in why for why in scanned["left_out"].values())


@pytest.mark.parametrize("name", ["01_masks_beside_images", "02_slices_of_one_patient"])
def test_what_cannot_be_known_is_not_claimed(medfocus: Medfocus, tmp_path: Path, name: str) -> None:
    data = made(name, tmp_path / "images")
    start = ("chance", "--data", data, "--profile", "imagenet")
    assert medfocus("masks", *start).code == 0
    assert medfocus("embed", "--focus", "original", "--views", "identity").code == 0
    probe = ("probe", "--row", "linear:original", "--fractions", "100", "--seeds", "1")
    [row] = facts(medfocus, *probe, "--workers", "1")["rows"]
    assert row["test_low"] <= 50


def test_split_folders_of_other_names_are_no_classes(medfocus: Medfocus, tmp_path: Path) -> None:
    data = made("03_names_of_split_folders", tmp_path / "images")
    scanned = facts(medfocus, "scan", "names", "--data", data, "--profile", "imagenet")
    assert {(one["split"], one["class"]): one["count"] for one in scanned["images"]} == {
        (split, name): 12 for split in ("train", "test") for name in ("healthy", "tumour")
    }
