"""The examples in docstrings, run where their data set is."""

import doctest
import importlib
import shutil
from pathlib import Path

import pytest

from tests.stages.conftest import Medfocus

ROOT = Path(__file__).parents[2]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "medfocus_pipeline").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


def test_every_example_prints_what_it_says(
    finished: Path, tmp_path: Path, medfocus: Medfocus, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("images", "cache"):
        shutil.copytree(finished / name, tmp_path / name)
    made = medfocus("export", "--head", "linear", "--focus", "segmented", "--out", "models/shapes")
    assert made.code == 0, made
    monkeypatch.chdir(tmp_path)
    assert MODULES
    for name in MODULES:
        found = doctest.testmod(importlib.import_module(name))
        assert found.attempted
        assert not found.failed, name
