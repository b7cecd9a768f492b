"""A small data set of pictures whose class has a visual cause, and ways to run the command line."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.cli import main


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


Medfocus = Callable[..., Answer]


@pytest.fixture
def medfocus(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Medfocus:
    """Run the command line in this process, in `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Answer:
        monkeypatch.setattr("sys.argv", ["medfocus", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


def spawn(*arguments: str | Path, cwd: Path) -> "subprocess.Popen[str]":
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "stages", *map(str, arguments)],
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
