"""Two first runs at once on an empty cache: both end well, or one says that the other runs."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tests.torture.kills import OUTPUTS, USERS, begin, clean, difference, hashes, verified
from tests.torture.trial import (
    HARMLESS,
    LOST,
    REFUSED,
    SILENT,
    TRACEBACK,
    Counts,
    command,
    ended,
    forked,
    started,
)

_COMMAND = "masks"
_APART = 0.1
"""Seconds at most between the two."""

_BUSY = "is being written by"


def pairs(
    root: Path, count: int, rng: np.random.Generator, commands: Mapping[str, Sequence[str]]
) -> Counts:
    """Start the command that makes the first store twice; then it has nothing to do.

    Args:
        root: see `kills`.
        commands: name -> arguments; the first one begins with an empty cache.
    """
    counts, arguments, empty = Counts(), commands[_COMMAND], next(iter(commands))
    mine = hashes(root, USERS)
    wanted, _ = clean(root, empty, arguments)
    logs = [root / f"log-{number}" for number in range(2)]
    for number in range(count):
        begin(root, empty)
        first = started(lambda: command(*arguments), logs[0])
        time.sleep(rng.random() * _APART)
        second = started(lambda: command(*arguments), logs[1])
        codes = [ended(child) for child in (first, second)]
        said = [log.read_text() for log in logs]
        what = f"pair {number}: codes {codes}: {' and '.join(text[-500:] for text in said)}"
        refused = [bool(code) for code in codes]
        honest = all(not code or _BUSY in text for code, text in zip(codes, said, strict=True))
        if any("Traceback" in text for text in said) or all(refused) or not honest:
            counts.note(TRACEBACK, what)
        elif hashes(root, USERS) != mine:
            counts.note(LOST, what)
        else:
            again = forked(lambda: command(*arguments), root / "log")
            wrong = difference(hashes(root, OUTPUTS), wanted)
            if again or wrong or _problems(root):
                counts.note(SILENT, f"{what}: again {again}, differs {wrong[:5]}")
            else:
                counts.note(REFUSED if any(refused) else HARMLESS, what)
    return counts


def _problems(root: Path) -> int:
    return forked(lambda: int(bool(verified(root / "cache"))), root / "log")
