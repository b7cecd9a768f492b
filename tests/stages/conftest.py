"""A small data set of pictures whose class has a visual cause, and ways to run the command line."""

import contextlib
import io
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from medfocus_pipeline.cli import app, main
from tests.bench.__main__ import app as bench_app


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Medfocus = Callable[..., Answer]


def call(*arguments: str | Path, cwd: Path, program: typer.Typer = app) -> Answer:
    """The command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("sys.argv", ["medfocus", *map(str, arguments)])
        patch.setattr(logging.root, "handlers", [])  # pytest's; else the log would not be shown
        try:
            main(program)
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())


@pytest.fixture
def medfocus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Medfocus:
    """Run the command line in this process, in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return partial(call, cwd=tmp_path)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Medfocus:
    """Run ``python -m tests.bench`` in this process, in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    return partial(call, cwd=tmp_path, program=bench_app)


def spawn(*arguments: str | Path, cwd: Path) -> "subprocess.Popen[str]":
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "medfocus_pipeline", *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def draw(kind: int, number: int, *, size: int = 64) -> np.ndarray:
    """A bright disc (kind 0) or square (kind 1) on a dark, noisy ground."""
    rng = np.random.default_rng((kind, number))
    y, x = np.mgrid[:size, :size]
    cx, cy = rng.uniform(0.35, 0.65, 2)
    r = rng.uniform(0.12, 0.2)
    dx, dy = np.abs(x / size - cx), np.abs(y / size - cy)
    inside = (np.hypot(dx, dy) < r) if kind == 0 else (np.maximum(dx, dy) < r)
    grey = rng.normal(40, 8, (size, size)) + 150 * inside
    return np.clip(grey, 0, 255).astype(np.uint8)


def make_images(root: Path, *, train: int, test: int = 0, size: int = 64) -> Path:
    """Two classes of `draw`; with `test`, an official split."""
    for kind, name in enumerate(("disc", "square")):
        for split, count, start in (("train", train, 0), ("test", test, 10_000)):
            folder = root / (split if test else "") / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                picture = draw(kind, start + number, size=size)
                Image.fromarray(picture).save(folder / f"{name} {number}.png")
    return root


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """24 training and 16 test images."""
    return make_images(tmp_path / "images", train=12, test=8)


EMBED = ("embed", "--views", "identity")
PROBE = ("probe", "--fractions", "50,100", "--seeds", "2", "--workers", "1")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and the cache of all three stages; to be copied, not changed."""
    root = tmp_path_factory.mktemp("finished")
    images = make_images(root / "images", train=12, test=8)
    for command in (("masks", "shapes", "--data", images, "--profile", "imagenet"), EMBED, PROBE):
        answer = call(*command, cwd=root)
        assert answer.code == 0, answer
    return root


@pytest.fixture
def done(medfocus: Medfocus, finished: Path, tmp_path: Path) -> Medfocus:
    """All three stages have run once in `tmp_path`."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    settings = tmp_path / "cache" / "shapes" / "settings.json"
    text = settings.read_text().replace(str(finished), str(tmp_path))
    settings.write_text(text)
    return medfocus
