"""Whole commands as a user runs them: start, work, and the run after it that has nothing to do."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from medfocus_pipeline.types import JSON
from tests.bench.pictures import write_pictures

_OPTIONS = {
    "masks": [],
    "embed": ["--focus", "original", "--views", "identity"],
    "probe": ["--row", "linear:original", "--fractions", "10"],
}
"""Enough for rows that the second run has to look at."""


def commands(folder: Path, *, images: int) -> JSON:
    """Seconds of each command of the imagenet profile, first and second time, and peak memory."""
    data = write_pictures(folder / "whole", images=images, side=224)
    common = [
        "bench",
        "--data",
        str(data),
        "--cache",
        str(folder / "cache"),
        "--profile",
        "imagenet",
    ]
    figures: JSON = {"images": images}
    for command, options in _OPTIONS.items():
        arguments = [command, *common, *options]
        figures[f"{command}_first_seconds"], peak = _run(["-c", WITH_PEAK, *arguments])
        figures[f"{command}_peak_megabytes"] = float(peak.split()[-1])
        again = [_run(["-m", "medfocus_pipeline", *arguments])[0] for _ in range(_REPEATS)]
        figures[f"{command}_again_seconds"] = statistics.median(again)
    return figures


_REPEATS = 5

WITH_PEAK = """
import sys
from medfocus_pipeline.__main__ import main
try:
    main()
except SystemExit as stop:
    if stop.code:
        raise
from tests.peaks import peak_megabytes
print(peak_megabytes())
"""
"""Runs a command line, then prints its peak memory in megabytes."""


def _run(arguments: list[str]) -> tuple[float, str]:
    started = time.perf_counter()
    run = subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return time.perf_counter() - started, run.stdout
