"""Whole commands as a user runs them: start, work, and the run after it that has nothing to do."""

import resource
import subprocess
import sys
import time
from pathlib import Path

from medfocus_pipeline.types import JSON
from stages.bench.pictures import write_pictures
from stages.bench.stage_one import peak_megabytes

_OPTIONS = {
    "masks": [],
    "embed": ["--focus", "original", "--views", "identity"],
    "probe": ["--row", "linear:original", "--fractions", "10"],
}
"""Enough for rows that the second run has to look at."""


def commands(folder: Path, *, images: int) -> JSON:
    """Seconds of each command of the offline profile, first and second time; peak memory."""
    data = write_pictures(folder / "whole", images=images, side=224)
    common = [
        "bench",
        "--data",
        str(data),
        "--cache",
        str(folder / "cache"),
        "--profile",
        "offline",
    ]
    figures: JSON = {"images": images}
    for command, options in _OPTIONS.items():
        for time_ in ("first", "again"):
            figures[f"{command}_{time_}_seconds"] = _seconds(command, *common, *options)
    figures["peak_memory_megabytes"] = peak_megabytes(resource.RUSAGE_CHILDREN)
    return figures


def _seconds(*arguments: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "stages", *arguments], check=True, capture_output=True)
    return time.perf_counter() - started
