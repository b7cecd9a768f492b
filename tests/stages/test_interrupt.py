"""Ctrl-C and a second run: nothing is lost, and the user is told."""

import signal
import time
from pathlib import Path

from tests.stages.conftest import make_images, spawn


def wait_for(path: Path, pattern: str) -> None:
    deadline = time.monotonic() + 60
    while not list(path.glob(pattern)):
        assert time.monotonic() < deadline, f"{pattern} never came"
        time.sleep(0.02)


def test_ctrl_c_keeps_what_was_finished_and_a_second_run_is_refused(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", train=200, size=48)
    arguments = ("masks", "shapes", "--profile", "imagenet", "--data", images, "--cache", "cache")
    first = spawn(*arguments, cwd=tmp_path)
    masks = tmp_path / "cache" / "shapes" / "masks"
    wait_for(masks, "*/index/part-000000.parquet")

    second = spawn(*arguments, cwd=tmp_path)
    told, _ = second.communicate(timeout=60)
    if first.poll() is None:  # else the first was done before the second asked
        assert second.returncode == 1
        assert f"is being written by process {first.pid}" in " ".join(told.split())

    first.send_signal(signal.SIGINT)
    told, _ = first.communicate(timeout=60)
    # Python gives SIGINT back to the system while it ends: all was done then.
    assert first.returncode in {0, 130, -signal.SIGINT}
    assert "Traceback" not in told
    if first.returncode == 130:
        assert "Stopped. What was finished is kept" in told
    else:
        assert len(list(masks.glob("*/index/*.parquet"))) == 7

    last = spawn(*arguments, cwd=tmp_path)
    told, _ = last.communicate(timeout=120)
    assert last.returncode == 0, told
    assert len(list(masks.glob("*/index/*.parquet"))) == 7
