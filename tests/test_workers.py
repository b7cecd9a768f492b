import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medfocus_pipeline.workers import worker_pool

CODE = """
import multiprocessing, os, signal, sys
from concurrent.futures import ProcessPoolExecutor
from medfocus_pipeline.workers import follow_parent

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(2, context, follow_parent)
    print(*{pool.submit(os.getpid).result() for _ in range(8)}, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path("/proc", str(pid), "stat")
    # Where nobody collects it, an ended process stays as a zombie.
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(CODE)
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    workers = [int(pid) for pid in run.stdout.split()]
    assert workers, run.stderr
    deadline = time.monotonic() + 30
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.02)


def test_ctrl_c_does_not_wait_for_what_the_workers_are_at() -> None:
    with pytest.raises(KeyboardInterrupt), worker_pool(1) as pool:
        pool.submit(os.getpid).result()  # it is up
        pool.submit(time.sleep, 600)
        raise KeyboardInterrupt
    assert not multiprocessing.active_children()
