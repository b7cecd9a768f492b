"""Command lines that nobody means, against a finished cache."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from typer.main import get_command

from tests.torture.kills import USERS, hashes
from tests.torture.trial import (
    HARMLESS,
    LOST,
    REFUSED,
    STOPPED,
    TRACEBACK,
    Counts,
    command,
    forked,
)

COMMANDS = (
    *("scan", "masks", "embed", "probe", "status", "audit", "cache ls", "cache verify"),
    *("cache prune", "export", "predict", "explain", "figure", "report", "profiles", "heads list"),
    *("models list", "phantom", "doctor", "reproduce", "results", "gate", "finetune", "adapt"),
    *("train-offline", "train-adapter"),
)
NAMES = ("shapes", "nothing", "", ".", "..", "a/b", "é", "x" * 300, "-", "--", "\udcff", "a\nb")
MEANT = {"predict": "images/test", "explain": "images/test", "adapt": "hospitals/mine.yaml"}
"""What commands are for that are not for a data set's name."""

OPTIONS = (
    *("--data", "--cache", "--profile", "--set", "--device", "--batch-size", "--workers"),
    *("--focus", "--roi", "--views", "--encoder", "--seeds", "--shots", "--fractions", "--row"),
    *("--size", "--segmenter", "--from", "--out", "--head", "--strict", "--seed", "--fit"),
    *("--rows", "--method", "--images", "--count", "--train", "--fraction", "--overlay"),
)
VALUES = (
    *("1", "2", "0.5", "5,10", "original", "segmented", "largest", "linear", "imagenet", "offline"),
    *("", "0", "-1", str(10**20), "1e400", "nan", "cpu", "identity,identity", "linear:", ":"),
    *("missing", "/dev/null", "/dev/full", "a=b", "frame=[", "frame=nan", "segmenter.name=x"),
    *("é", "x" * 300, "frame=&a [*a]", "a" * 100 + "=1", "images", "cache", "pack", "1,,2"),
    *("hospitals/mine.yaml", "hospitals/images.csv", "hospitals", "mahalanobis", "coral", "all"),
    *("linear,linear", "[" * 5000, "probe.rows=1", "views=[]", "\udcff", "\x1b[31m", "2024-13-45"),
)

_SECONDS = 15


def lines(root: Path, count: int, rng: np.random.Generator) -> Counts:
    """Run them; each ends with a code and a message, never with a traceback."""
    counts, log = Counts(), root / "log"
    places = [root / name for name in ("cache", "pack", *USERS) if (root / name).is_dir()]
    mine = hashes(root, USERS)
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
        elif not mine.items() <= hashes(root, USERS).items():
            counts.note(LOST, f"{line} changed or removed the user's files")
        else:
            counts.note(REFUSED if code else HARMLESS, "")
        for place in places:
            shutil.rmtree(place)
            shutil.copytree(kept / place.name, place)
    return counts


def random_line(rng: np.random.Generator) -> list[str]:
    """A command, mostly on what is there, and one to three options, mostly ones that it has."""
    line = str(rng.choice(COMMANDS)).split()
    known = options_of(line)
    meant = MEANT.get(line[0], "shapes")
    line.append(NAMES[rng.integers(len(NAMES))] if rng.random() < 0.3 else meant)
    for _ in range(rng.integers(1, 4)):
        names = OPTIONS if rng.random() < 0.2 or not known else known
        line += [names[rng.integers(len(names))], VALUES[rng.integers(len(VALUES))]]
    return line


def options_of(line: list[str]) -> list[str]:
    """The options of a command that take a value."""
    from medfocus_pipeline.cli import app

    command: Any = get_command(app)
    for name in line:
        command = command.commands[name]
    options = [one for one in command.params if one.param_type_name == "option"]
    names = [one.opts[0] for one in options if not one.is_flag]
    return [name for name in names if name != "--cache"]
