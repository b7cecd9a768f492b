"""Command lines that nobody means, against a finished cache."""

from pathlib import Path

import numpy as np

from tests.torture.trial import TRACEBACK, Counts, command, forked

COMMANDS = ("scan", "masks", "embed", "probe", "status", "audit", "cache", "export", "predict")
NAMES = ("shapes", "nothing", "", ".", "..", "a/b", "é", "x" * 300, "-", "--", "\udcff")
OPTIONS = (
    *("--data", "--cache", "--profile", "--set", "--device", "--batch-size", "--workers"),
    *("--focus", "--roi", "--views", "--encoder", "--seeds", "--shots", "--fractions", "--row"),
    *("--size", "--segmenter", "--from", "--out", "--head", "--strict", "ls", "verify"),
)
VALUES = (
    *("", "0", "-1", str(10**20), "1e400", "nan", "cpu", "identity,identity", "linear:", ":"),
    *("missing", "/dev/null", "a=b", "frame=[", "frame=nan", "segmenter.name=x", "é", "x" * 300),
)


def lines(root: Path, count: int, rng: np.random.Generator) -> Counts:
    """Run them; each ends with a code and a message, never with a traceback."""
    counts = Counts()
    for _ in range(count):
        line = [str(rng.choice(COMMANDS)), NAMES[rng.integers(len(NAMES))]]
        for _ in range(rng.integers(1, 4)):
            line += [OPTIONS[rng.integers(len(OPTIONS))], VALUES[rng.integers(len(VALUES))]]
        code = forked(lambda line=line: command(*line), root / "log")
        text = (root / "log").read_text(errors="replace")
        if code not in {0, 1, 2} or "Traceback" in text:
            counts.note(TRACEBACK, f"{line} ended with {code}: {text[-700:]}")
        else:
            counts.note("refused clearly" if code else "no harm", "")
    return counts
