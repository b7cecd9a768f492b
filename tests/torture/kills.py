"""A command that dies while it writes; the next run ends with the same files.

It dies as it opens a file to write it, before an fsync (and leaves a part of the file), before a
rename, and before it removes a file.
"""

import builtins
import contextlib
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import numpy as np

from medfocus_pipeline.commands import report
from medfocus_pipeline.commands.verify import verify
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.files import leftovers
from medfocus_pipeline.stores import opening
from tests.torture.trial import LOST, REPAIRED, SILENT, TRACEBACK, Counts, command, forked

KILLED = 137

OUTPUTS = ("cache", "pack", "page", "out", "drawn")
"""Folders that commands write; what lies beside them is the user's."""

USERS = ("images", "hospitals")
"""The user's."""


_TIMED: tuple[results.Runs, ...] = ("results", "adaptation")


_EACH = 10
"""Kills at least of each command."""


class Killer:
    """Counts what a process does to files; at the n-th of these it dies.

    Args:
        at: from 1; 0 never.
        share: of the file that is kept where it dies before an fsync.
    """

    def __init__(self, at: int, *, share: float) -> None:
        self.events = 0
        self._at = at
        self._share = share

    def install(self) -> None:
        for name in ("replace", "rename", "unlink"):
            setattr(os, name, self._counted(getattr(os, name)))
        os.fsync = self._counted(os.fsync, cut=True)
        builtins.open = io.open = self._opener(io.open)

    def _dies(self) -> bool:
        self.events += 1
        return self.events == self._at

    def _counted(self, real: Callable[..., Any], *, cut: bool = False) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self._dies():
                if cut:
                    self._cut(args[0])
                os._exit(KILLED)
            return real(*args, **options)

        return call

    def _cut(self, file: Any) -> None:
        number = file if isinstance(file, int) else file.fileno()
        with contextlib.suppress(OSError):  # a folder, or open for reading
            os.ftruncate(number, int(self._share * os.fstat(number).st_size))

    def _opener(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            found = real(file, mode, *args, **options)
            if set(mode) & set("wax+") and not isinstance(file, int) and self._dies():
                os._exit(KILLED)
            return found

        return opened


def kills(
    root: Path, count: int, rng: np.random.Generator, commands: Mapping[str, Sequence[str]]
) -> Counts:
    """Kill each command at random places.

    Args:
        root: holds the folders in `USERS`, and for each command ``before-<name>`` with the
            folders in `OUTPUTS` as they were before it.
        commands: name -> arguments.
    """
    counts, log = Counts(), root / "log"
    mine = hashes(root, USERS)
    wanted, total, seconds = {}, {}, {}
    for name in commands:
        started = time.monotonic()
        wanted[name], total[name] = clean(root, name, commands[name])
        seconds[name] = time.monotonic() - started
    names = [name for name in commands if total[name]]
    rates = np.array([1 / seconds[name] for name in names])
    for number in range(count):  # of quick ones more than of slow ones
        drawn = rng.choice(len(names), p=rates / rates.sum())
        name = names[number % len(names) if number < _EACH * len(names) else drawn]
        at = 1 + int(rng.integers(total[name]))
        share = float(rng.choice([0, rng.random(), 1]))
        begin(root, name)
        code = forked(lambda: _dying(root, at, share, commands[name]), log)  # noqa: B023
        what = f"{name} killed at {at} of {total[name]}"
        if code not in {KILLED, 0}:
            counts.note(TRACEBACK, f"{what}: {code}, {log.read_text()[-700:]}")
            continue
        counts.note(*_after(root, name, commands[name], what, wanted[name], mine))
    return counts


def clean(root: Path, name: str, arguments: Sequence[str]) -> tuple[dict[str, str], int]:
    """What a run that nobody kills leaves behind, and how often it could be killed.

    Args:
        name: of the command before which it begins.

    Returns:
        Path -> hash, empty of a file that two runs write differently: it says when, or how long.
    """
    first, total = _clean_run(root, name, arguments)
    second, _ = _clean_run(root, name, arguments, tomorrow=True)
    return {path: two if first.get(path) == two else "" for path, two in second.items()}, total


def difference(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Paths of files that are missing, too many, or not as they should be."""
    return sorted(
        path
        for path in found.keys() | wanted.keys()
        if path not in found or path not in wanted or wanted[path] not in {"", found[path]}
    )


def _clean_run(
    root: Path, name: str, arguments: Sequence[str], *, tomorrow: bool = False
) -> tuple[dict[str, str], int]:
    def run() -> int:
        if tomorrow:
            for module in (opening, report):
                vars(module)["datetime"] = _Tomorrow
        return _dying(root, 0, 1, arguments)

    begin(root, name)
    code = forked(run, root / "log")
    assert code == 0, (name, (root / "log").read_text())
    return hashes(root, OUTPUTS), json.loads((root / "events").read_text())


class _Tomorrow(datetime):
    """Two runs within a second would hide what says when."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + timedelta(days=1)


def _dying(root: Path, at: int, share: float, arguments: Sequence[str]) -> int:
    killer = Killer(at, share=share)
    killer.install()
    code = command(*arguments)
    total = killer.events
    (root / "events").write_text(str(total))
    return code


def _after(
    root: Path,
    name: str,
    arguments: Sequence[str],
    what: str,
    wanted: Mapping[str, str],
    mine: Mapping[str, str],
) -> tuple[str, str]:
    """The outcome of a kill: what is there before and after the command has run once more."""
    log = root / "log"
    seen = forked(lambda: int(bool(verified(root / "cache"))), log)
    if "Traceback" in log.read_text():
        return TRACEBACK, f"{what}, verify: {log.read_text()[-700:]}"
    code = forked(lambda: command(*arguments), log)
    text = log.read_text()
    if code or "Traceback" in text:
        return TRACEBACK, f"{what}, again: {code}, {text[-700:]}"
    if hashes(root, USERS) != mine:
        return LOST, what
    wrong = difference(hashes(root, OUTPUTS), wanted)
    if seen or wrong or leftovers(root):
        return SILENT, f"{what}: verify {seen}, differs {wrong[:5]}, left {leftovers(root)[:3]}"
    return REPAIRED, what


def begin(root: Path, name: str) -> None:
    """Put back what was there before a command."""
    for folder in OUTPUTS:
        shutil.rmtree(root / folder, ignore_errors=True)
    shutil.copytree(root / f"before-{name}", root, dirs_exist_ok=True)


def verified(cache: Path) -> int:
    """Number of problems of all data sets and studies, also of those that are half there."""
    folders = sorted(path for path in cache.glob("*") if path.is_dir())
    return sum(verify(folder, repair=False) for folder in folders)


def hashes(root: Path, folders: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each file; of results without their seconds; locks are left out."""
    return {
        str(path.relative_to(root)): _digest(path)
        for folder in folders
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and not path.name.endswith(("lock", "lock.json"))
    }


def _digest(path: Path) -> str:
    for name in _TIMED:
        if path.name == f"{name}.parquet":
            return str(results.read(path.parent, name).drop_columns(["seconds"]).to_pylist())
    return hashlib.sha256(path.read_bytes()).hexdigest()
