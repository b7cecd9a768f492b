import subprocess
import sys
from pathlib import Path

import pytest

FEW, MANY = 2_000, 20_000
SLACK = 15.0
"""MiB for what is kept of each image: its id and its place, about 600 bytes."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc, which is Linux's")
def test_peak_memory_of_stage_one_does_not_depend_on_the_number_of_images(tmp_path: Path) -> None:
    """Were the images kept, 18,000 more would take 54 MiB more, the stores' rows 6 MiB."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.peak_memory", str(tmp_path / str(rows)), str(rows)],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rows in (FEW, MANY)
    ]
    few, many = (float(run.communicate()[0]) for run in runs)
    assert [run.returncode for run in runs] == [0, 0]
    assert many <= 1.05 * few + SLACK
