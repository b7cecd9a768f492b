"""Command lines that nobody means, against a finished cache."""

import shutil
from pathlib import Path

import numpy as np

from tests.torture.trial import HARMLESS, REFUSED, STOPPED, TRACEBACK, Counts, command, forked

COMMANDS = (
    *("scan", "masks", "embed", "probe", "status", "audit", "cache ls", "cache verify"),
    *("cache prune", "export", "predict", "explain", "figure", "report", "profiles", "heads list"),
    *("models list", "phantom", "doctor", "reproduce"),
)
NAMES = ("shapes", "nothing", "", ".", "..", "a/b", "é", "x" * 300, "-", "--", "\udcff", "a\nb")
OPTIONS = (
    *("--data", "--cache", "--profile", "--set", "--device", "--batch-size", "--workers"),
    *("--focus", "--roi", "--views", "--encoder", "--seeds", "--shots", "--fractions", "--row"),
    *("--size", "--segmenter", "--from", "--out", "--head", "--strict", "--seed", "--fit"),
    *("--rows", "--method", "--images", "--count", "--train", "--fraction", "--overlay"),
)
VALUES = (
    *("", "0", "-1", str(10**20), "1e400", "nan", "cpu", "identity,identity", "linear:", ":"),
    *("missing", "/dev/null", "/dev/full", "a=b", "frame=[", "frame=nan", "segmenter.name=x"),
    *("é", "x" * 300, "frame=&a [*a]", "a" * 100 + "=1", "images", "cache", "pack", "1,,2"),
    *("linear,linear", "[" * 5000, "probe.rows=1", "views=[]", "\udcff", "\x1b[31m", "2024-13-45"),
)

_SECONDS = 15


def lines(root: Path, count: int, rng: np.random.Generator) -> Counts:
    """Run them; each ends with a code and a message, never with a traceback."""
    counts, log = Counts(), root / "log"
    places = [root / name for name in ("cache", "pack", "images") if (root / name).is_dir()]
    kept = root / "kept"
    for place in places:
        shutil.copytree(place, kept / place.name)
    for _ in range(count):
        line = random_line(rng)
        code = forked(lambda: command(*line), log, seconds=_SECONDS)  # noqa: B023
        text = log.read_text(errors="replace")
        if code == 128 + 15 and "Traceback" not in text:
            counts.note(STOPPED, "")
        elif code not in {0, 1, 2} or "Traceback" in text:
            counts.note(TRACEBACK, f"{line} ended with {code}: {text[-900:]}")
        else:
            counts.note(REFUSED if code else HARMLESS, "")
        for place in places:
            shutil.rmtree(place)
            shutil.copytree(kept / place.name, place)
    return counts


def random_line(rng: np.random.Generator) -> list[str]:
    """A command, a name, and one to three options with values that may be another's."""
    line = [*str(rng.choice(COMMANDS)).split(), NAMES[rng.integers(len(NAMES))]]
    for _ in range(rng.integers(1, 4)):
        line += [OPTIONS[rng.integers(len(OPTIONS))], VALUES[rng.integers(len(VALUES))]]
    return line
