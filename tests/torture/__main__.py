"""Runs the trials and prints their counts; exits with 1 if one is bad."""

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.stages.conftest import make_images
from tests.torture.flips import flips
from tests.torture.inputs import inputs
from tests.torture.kills import kills
from tests.torture.lines import lines
from tests.torture.trial import BAD, Counts, command, forked

STAGES = {
    "scan": ("scan", "shapes", "--profile", "imagenet", "--data", "images"),
    "masks": ("masks", "shapes", "--profile", "imagenet", "--data", "images"),
    "embed": ("embed", "shapes", "--views", "identity", "--focus", "original,segmented"),
    "probe": ("probe", "shapes", "--fractions", "100", "--seeds", "1", "--workers", "1"),
    "audit": ("audit", "shapes"),
}


def prepare(root: Path) -> None:
    """Images, and the cache before each stage and after the last; in `root`, the folder to be."""
    make_images(root / "images", train=5, test=3, size=32)
    for name, arguments in STAGES.items():
        if (root / "cache").exists():
            shutil.copytree(root / "cache", root / f"before-{name}")
        code = forked(lambda arguments=arguments: command(*arguments), root / "log")
        assert code == 0, (root / "log").read_text()
    shutil.copytree(root / "cache", root / "finished")


def torture(root: Path, numbers: dict[str, int], *, seed: int = 0) -> dict[str, Counts]:
    """The counts of each kind of trial; the folder of this process is `root`, and prepared."""
    rng = np.random.default_rng(seed)
    found = {"inputs": inputs(root, numbers["inputs"], rng)}
    found["kills"] = kills(root, numbers["kills"], rng, STAGES)
    shutil.rmtree(root / "cache", ignore_errors=True)
    shutil.copytree(root / "finished", root / "cache")
    found["lines"] = lines(root, numbers["lines"], rng)
    # Last: zarr starts a thread, which no forked process has.
    found["flips"] = flips(root / "finished" / "shapes", numbers["flips"], rng)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = {"kills": 1000, "flips": 50_000, "inputs": 300, "lines": 400}
    for name, number in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        os.chdir(name)
        prepare(Path(name))
        numbers = {name: getattr(options, name) for name in defaults}
        found = torture(Path(name), numbers, seed=options.seed)
        os.chdir("/")
    for name, counts in found.items():
        print(f"{name}: {counts.line()}")
        for example in counts.examples[:20]:
            print(f"  {example}")
    print(f"{time.monotonic() - started:.0f} s")
    return int(any(counts[bad] for counts in found.values() for bad in BAD))


if __name__ == "__main__":
    sys.exit(main())
