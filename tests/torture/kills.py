"""A command that dies at its n-th fsync or rename; the next run ends with the same files."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medfocus_pipeline.files import leftovers
from stages.verify import verify
from tests.torture.trial import LOST, SILENT, TRACEBACK, Counts, command, forked

KILLED = 137


def dying(at: int, arguments: tuple[str, ...], told: Path) -> int:
    """Run a command that dies before its n-th fsync or rename; writes down how many there were."""
    calls = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                os._exit(KILLED)
            return real(*args, **options)

        return call

    os.fsync, os.replace, os.rename = (counted(f) for f in (os.fsync, os.replace, os.rename))
    code = command(*arguments)
    told.write_text(str(calls))
    return code


def kills(root: Path, count: int, rng: np.random.Generator, stages: dict[str, Any]) -> Counts:
    """Kill each command at random places.

    Args:
        root: holds ``images`` and the cache before each stage, ``before-<stage>``.
        stages: name -> arguments, in order; `flips` and the short test use the finished cache.
    """
    counts, told, log = Counts(), root / "calls", root / "log"
    inputs = _hashes(root / "images")
    names = list(stages)
    wanted, total = {}, {}
    for name in names:
        _begin(root, name)
        code = forked(lambda name=name: dying(0, stages[name], told), log)
        assert code == 0, log.read_text()
        wanted[name], total[name] = _hashes(root / "cache"), int(told.read_text())
    for number in range(count):
        name = names[number % len(names)]
        at = 1 + int(rng.integers(total[name]))
        _begin(root, name)
        code = forked(lambda name=name, at=at: dying(at, stages[name], told), log)
        what = f"{name} killed at {at} of {total[name]}"
        if code != KILLED:
            counts.note(TRACEBACK, f"{what}: {code}, {log.read_text()[-500:]}")
            continue
        damaged = forked(lambda: verify(root / "cache" / "shapes", repair=False), log)
        code = forked(lambda name=name: command(*stages[name]), log)
        text = log.read_text()
        if _hashes(root / "images") != inputs:
            counts.note(LOST, what)
        elif code or "Traceback" in text:
            counts.note(TRACEBACK, f"{what}: {text[-500:]}")
        elif damaged or leftovers(root / "cache") or _hashes(root / "cache") != wanted[name]:
            counts.note(SILENT, what)
        else:
            counts.note("repaired", what)
    return counts


def _begin(root: Path, stage: str) -> None:
    shutil.rmtree(root / "cache", ignore_errors=True)
    if (root / f"before-{stage}").exists():
        shutil.copytree(root / f"before-{stage}", root / "cache")


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file; of what says when or how long, its name alone."""
    timed = {"store.json", "results.parquet", "lock.json", ".lock"}
    return {
        str(path.relative_to(folder)): (
            "" if path.name in timed else hashlib.sha256(path.read_bytes()).hexdigest()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock.json"
    }
