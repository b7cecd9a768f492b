"""The examples in docstrings, run where their data set is."""

import doctest
import importlib
import shutil
from pathlib import Path

import pytest

from tests.stages.conftest import Medfocus

MODULES = (
    "medfocus_pipeline.augmentation",
    "medfocus_pipeline",
    "medfocus_pipeline.classifier.classifier",
    "medfocus_pipeline.datasets.readers",
    "medfocus_pipeline.encoders.pooling",
    "medfocus_pipeline.errors",
    "medfocus_pipeline.project.progress",
    "medfocus_pipeline.project.project",
    "medfocus_pipeline.types",
)


def test_every_example_prints_what_it_says(
    finished: Path, tmp_path: Path, medfocus: Medfocus, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("images", "cache"):
        shutil.copytree(finished / name, tmp_path / name)
    made = medfocus("export", "--head", "linear", "--focus", "segmented", "--out", "models/shapes")
    assert made.code == 0, made
    monkeypatch.chdir(tmp_path)
    for name in MODULES:
        found = doctest.testmod(importlib.import_module(name))
        assert found.attempted
        assert not found.failed, name


def test_no_module_with_an_example_is_left_out() -> None:
    root = Path(__file__).parents[2]
    with_examples = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for path in (root / "medfocus_pipeline").rglob("*.py")
        if ">>> " in path.read_text(encoding="utf-8")
    }
    assert with_examples == set(MODULES)
