"""One trial in a forked process, and the counts of many."""

import os
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

SILENT, TRACEBACK, LOST = "silently wrong", "tracebacks", "files lost"
BAD = (SILENT, TRACEBACK, LOST)
REFUSED, REPAIRED, HARMLESS, STOPPED = "refused clearly", "repaired", "no harm", "stopped"
OURS = (REFUSED, REPAIRED, HARMLESS, STOPPED)

HUNG = 71
"""Exit code of what a SIGTERM did not end."""

_PATIENCE = 20.0


class Counts(Counter[str]):
    """Outcome -> number, and what the bad ones were."""

    def __init__(self) -> None:
        super().__init__()
        self.examples: list[str] = []

    def note(self, outcome: str, what: str) -> None:
        self[outcome] += 1
        if outcome in BAD:
            self.examples.append(f"{outcome}: {what}")
            print(self.examples[-1], file=sys.stderr, flush=True)


def table(found: Mapping[str, Counts]) -> str:
    """The counts of each kind of trial, in Markdown."""
    names = (*OURS, *BAD)
    rows = [("trials", "tried", *names), ("---", *["---:"] * (1 + len(names)))]
    rows += [
        (kind, f"{counts.total():,}", *(f"{counts[name]:,}" for name in names))
        for kind, counts in found.items()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def forked(
    work: Callable[[], int], log: Path, *, memory: int | None = None, seconds: float = 120
) -> int:
    """Exit code of some work in a process of its own, whose outputs go to a file.

    Args:
        memory: bytes of address space beyond those that are taken already.
        seconds: after which it gets a SIGTERM; one that goes on has the code `HUNG`.
    """
    return ended(started(work, log, memory=memory), seconds=seconds)


def started(work: Callable[[], int], log: Path, *, memory: int | None = None) -> int:
    """The number of a process of its own that does some work, see `forked`."""
    child = os.fork()
    if not child:
        _work(work, log, memory)
    return child


def ended(child: int, *, seconds: float = 120) -> int:
    """Exit code of a process that was started, see `forked`."""
    for number, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, _PATIENCE)):
        code = _waited(child, patience)
        if code is not None:
            return code
        os.kill(child, number)
    os.waitpid(child, 0)
    return HUNG


def _waited(child: int, seconds: float) -> int | None:
    deadline, pause = time.monotonic() + seconds, 0.001
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(2 * pause, 0.02)
    return None


def _work(work: Callable[[], int], log: Path, memory: int | None) -> None:
    code = 70
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        if memory is not None:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + memory
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        code = work()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def command(*arguments: str | Path) -> int:
    """The command line, in the folder of this process."""
    from medfocus_pipeline.__main__ import main

    sys.argv = ["medfocus", *map(str, arguments)]
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    return 0
