"""One trial in a forked process, and the counts of many."""

import os
import resource
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

SILENT, TRACEBACK, LOST = "silently wrong", "tracebacks", "files lost"
BAD = (SILENT, TRACEBACK, LOST)
OURS = ("refused clearly", "repaired", "no harm", "stopped")

_SECONDS = 120


class Counts(Counter[str]):
    """Outcome -> number, and what the bad ones were."""

    def __init__(self) -> None:
        super().__init__()
        self.examples: list[str] = []

    def note(self, outcome: str, what: str) -> None:
        self[outcome] += 1
        if outcome in BAD:
            self.examples.append(f"{outcome}: {what}")

    def line(self) -> str:
        names = (*OURS, *BAD)
        return f"tried {self.total():,}: " + ", ".join(f"{self[name]:,} {name}" for name in names)


def forked(work: Callable[[], int], log: Path, *, memory: int | None = None) -> int:
    """Exit code of some work in a process of its own, whose outputs go to a file.

    Args:
        memory: bytes of address space beyond those that are taken already.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 70
    try:
        signal.alarm(_SECONDS)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
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
    from stages.cli import main

    sys.argv = ["medfocus", *map(str, arguments)]
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    return 0
