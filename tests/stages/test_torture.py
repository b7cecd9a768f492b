"""The short form of ``make torture``: the same trials, fewer of them."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.stages.conftest import Medfocus
from tests.torture.flips import flips
from tests.torture.trial import BAD


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by what /proc says")
def test_kills_two_runs_at_once_hostile_files_and_lines_do_no_harm() -> None:
    tried = {"kills": 4, "pairs": 6, "inputs": 16, "guided": 100, "lines": 4}
    numbers = [f"--{name}={number}" for name, number in {**tried, "flips": 0}.items()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture", *numbers, "--commands", "scan,masks", "--jobs=1"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"^\| (\w+) \| (\d+) \|", done.stdout, re.MULTILINE)
    assert {name: int(number) for name, number in found} == tried


def test_flips_are_found_by_every_reader(done: Medfocus, tmp_path: Path) -> None:
    assert done("audit").code == 0
    assert done("export", "--head", "linear", "--focus", "original", "--out", "pack").code == 0
    counts = flips(tmp_path, 300, np.random.default_rng(0))
    assert not any(counts[bad] for bad in BAD), counts.examples
    assert counts["refused clearly"] > 200
