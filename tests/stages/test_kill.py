"""``kill -9`` at random moments: the next run goes on, and the stores end up the same."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from tests.stages.conftest import make_images, spawn

KILLS = {"masks": 5, "embed": 2}
"""Both stages are written by the same code; `embed` spends its time importing torch."""

FOLDER = {"masks": "masks", "embed": "embeddings"}


def stored(cache: Path) -> dict[str, bytes]:
    """Every file of every store that says something about the images."""
    transient = {"lock.json", ".lock"}
    files = {}
    for path in sorted(cache.rglob("*")):
        if path.is_file() and path.name not in transient and path.parts[-3] != cache.name:
            data = path.read_bytes()
            if path.name == "store.json":
                data = json.dumps({**json.loads(data), "created": None, "sha256": None}).encode()
            files[str(path.relative_to(cache))] = data
    return files


def run_to_the_end(*arguments: str | Path, cwd: Path) -> float:
    started = time.monotonic()
    process = spawn(*arguments, cwd=cwd)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return time.monotonic() - started


@pytest.mark.parametrize("stage", ["masks", "embed"])
def test_a_killed_run_goes_on_and_ends_with_the_same_stores(tmp_path: Path, stage: str) -> None:
    images = make_images(tmp_path / "images", train=160 if stage == "masks" else 140, size=48)
    common = ("shapes", "--profile", "imagenet", "--data", images)
    embed = ("--focus", "segmented", "--views", "identity")
    arguments = {"masks": ("masks", *common), "embed": ("embed", *common, *embed)}[stage]
    reference, cache = tmp_path / "reference", tmp_path / "cache"
    if stage == "embed":
        run_to_the_end("masks", *common, "--cache", reference, cwd=tmp_path)
        shutil.copytree(reference, cache)
    whole = run_to_the_end(*arguments, "--cache", reference, cwd=tmp_path)

    rng = np.random.default_rng(0)
    killed = 0
    while killed < KILLS[stage]:
        process = spawn(*arguments, "--cache", cache, cwd=tmp_path)
        time.sleep(rng.uniform(0.2, 1.1) * whole)
        if process.poll() is None:
            process.kill()
            killed += 1
        elif stored(cache) == stored(reference):  # nothing is left to kill: begin again
            shutil.rmtree(cache / "shapes" / FOLDER[stage])
        process.communicate()
    run_to_the_end(*arguments, "--cache", cache, cwd=tmp_path)
    assert stored(cache) == stored(reference)
