"""All trials on a small data set, in some processes side by side."""

import importlib
import json
import logging
import os
import shutil
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from medfocus_pipeline.stores import index
from tests.stages.conftest import make_images
from tests.stages.test_adapt import write_hospitals
from tests.torture.flips import flips
from tests.torture.guided import guided
from tests.torture.inputs import inputs
from tests.torture.kills import OUTPUTS, begin, kills
from tests.torture.lines import lines
from tests.torture.pairs import pairs
from tests.torture.trial import Counts, command, forked

Commands: TypeAlias = Mapping[str, Sequence[str]]

NUMBERS = {
    "kills": 1000,
    "pairs": 20,
    "inputs": 300,
    "guided": 20_000,
    "lines": 400,
    "flips": 50_000,
}

COMMANDS = {
    "scan": ("scan", "shapes", "--profile", "imagenet", "--data", "images"),
    "masks": ("masks", "shapes", "--profile", "imagenet", "--data", "images"),
    "embed": ("embed", "shapes", "--views", "identity", "--focus", "original,segmented"),
    "probe": ("probe", "shapes", "--fractions", "100", "--seeds", "1", "--workers", "1"),
    "audit": ("audit", "shapes"),
    "export": ("export", "shapes", "--head", "linear", "--focus", "original", "--out", "pack"),
    "predict": ("predict", "images/test", "--from", "pack", "--overlay", "drawn"),
    "explain": ("explain", "images/test", "--from", "pack", "--out", "out"),
    "report": ("report", "shapes", "--out", "page", "--images", "8"),
    "figure": ("figure", "shapes", "--count", "2", "--out", "out/figure.png"),
    "gate scan": ("scan", "shapes", "--gate"),
    "gate": (
        *("gate", "shapes", "--medical", "disc", "--parts", "original"),
        *("--methods", "mahalanobis"),
    ),
    "finetune": (
        *("finetune", "shapes", "--model", "efficientnet-lite0", "--fractions", "100"),
        *("--seeds", "1", "--epochs", "2", "--what", "last_block", "--workers", "1"),
        *("--device", "cpu"),
    ),
    "features": (
        *("embed", "hospitals", "--data", "hospitals/images.csv", "--profile", "imagenet"),
        *("--features", "hospitals/features.npy", "--workers", "1"),
    ),
    "adapt": (
        *("adapt", "hospitals/mine.yaml", "--source", "north", "--target", "south"),
        *("--methods", "source,coral,oracle", "--seeds", "1", "--workers", "1"),
    ),
    "prune": ("cache", "prune", "shapes", "--yes", "--profile", "offline"),
    "verify": ("cache", "verify", "shapes", "--repair"),
}
"""In the order in which they first run; each begins where the one before ended."""

_FEW = index._FEW

_FINISHED = "prune"
"""What begins with everything that there is."""

_IMPORTED = (
    *("medfocus_pipeline", "stages", "torch", "timm", "sklearn", "scipy", "zarr", "pyarrow"),
    *("accelerate", "peft", "safetensors", "matplotlib", "skimage", "nibabel", "pydicom"),
)


def campaign(
    root: Path, numbers: dict[str, int], *, seed: int, jobs: int, names: Sequence[str]
) -> dict[str, Counts]:
    """The counts of each kind of trial; the other kinds need all commands.

    Args:
        root: an empty folder.
        numbers: kind -> how many of it, `NUMBERS` has the kinds.
        jobs: processes among which they are shared.
        names: of the commands that are killed.
    """
    logging.disable(logging.WARNING)
    commands = {name: COMMANDS[name] for name in names}
    _import_all(root, commands)
    children = {}
    for job in range(jobs):
        share = {name: n // jobs + (job < n % jobs) for name, n in numbers.items()}
        child = os.fork()
        if not child:
            _job(root / f"job-{job}", share, commands, seed=seed + job)
        children[child] = root / f"job-{job}.json"
    found = {name: Counts() for name in numbers}
    for child, path in children.items():
        _, status = os.waitpid(child, 0)
        assert status == 0, "a job broke off, see above"
        for name, (numbers, examples) in json.loads(path.read_text()).items():
            found[name].update(numbers)
            found[name].examples += examples
    return found


def _job(root: Path, numbers: dict[str, int], commands: Commands, *, seed: int) -> None:
    try:
        root.mkdir()
        os.chdir(root)
        prepare(root, commands)
        found = torture(root, numbers, commands, np.random.default_rng(seed))
        told = {name: (counts, counts.examples) for name, counts in found.items()}
        root.with_suffix(".json").write_text(json.dumps(told))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def prepare(root: Path, commands: Commands) -> None:
    """Images, and what was there before each command, in `root`, the folder of this process."""
    index._FEW = 0  # so that few images make the index segments of many
    make_images(root / "images", train=5, test=3, size=32)
    write_hospitals(root / "hospitals")
    for name, arguments in commands.items():
        before = root / f"before-{name}"
        before.mkdir()
        for folder in OUTPUTS:
            if (root / folder).exists():
                shutil.copytree(root / folder, before / folder)
        code = forked(lambda: command(*arguments), root / "log")  # noqa: B023
        assert code == 0, (name, (root / "log").read_text())


def torture(
    root: Path, numbers: dict[str, int], commands: Commands, rng: np.random.Generator
) -> dict[str, Counts]:
    """The trials of one process, in a folder that is prepared."""
    found = {}
    # Flips last: zarr starts a thread, which no forked process has.
    trials = {
        "kills": partial(kills, commands=commands),
        "pairs": partial(pairs, commands=commands),
        "inputs": inputs,
        "guided": guided,
        "lines": lines,
    }
    for name, trial in {**trials, "flips": _flips}.items():
        if not numbers[name]:
            continue
        started = time.monotonic()
        begin(root, _FINISHED if _FINISHED in commands else next(iter(commands)))
        found[name] = trial(root, numbers[name], rng)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return found


def _flips(root: Path, count: int, rng: np.random.Generator) -> Counts:
    """Flips of a cache where the masks are in segments, and the embeddings in parts."""
    index._FEW = _FEW
    shutil.rmtree(root / "cache" / "shapes" / "embeddings")
    code = forked(lambda: command(*COMMANDS["embed"]), root / "log")
    assert code == 0, (root / "log").read_text()
    return flips(root, count, rng)


def _import_all(root: Path, commands: Commands) -> None:
    """Import here what the commands import, so that those of each trial need not."""
    work = root / "imports"
    work.mkdir()
    names = work / "names"

    def look() -> int:
        os.chdir(work)
        make_images(work / "images", train=5, test=3, size=32)
        write_hospitals(work / "hospitals")
        for arguments in commands.values():
            assert command(*arguments) == 0
        names.write_text("\n".join(sys.modules))
        return 0

    code = forked(look, work / "log", seconds=300)
    assert code == 0, (work / "log").read_text()
    for name in names.read_text().split():
        if name.split(".")[0] in _IMPORTED:
            importlib.import_module(name)
    shutil.rmtree(work)
