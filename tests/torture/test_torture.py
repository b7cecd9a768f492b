"""A short form of ``make torture``: no file lost, nothing silently wrong, no traceback."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_nothing_is_lost_or_silently_wrong() -> None:
    numbers = {"kills": 10, "flips": 500, "inputs": 30, "lines": 10}
    options = [text for name, number in numbers.items() for text in (f"--{name}", str(number))]
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name, number in numbers.items():
        assert f"{name}: tried {number}: " in done.stdout
    assert done.stdout.count("0 silently wrong, 0 tracebacks, 0 files lost") == len(numbers)
