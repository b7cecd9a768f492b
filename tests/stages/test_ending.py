"""A command that is ended, by a signal, a closed output or a limit, says so in a sentence."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from medfocus_pipeline.commands import ending
from medfocus_pipeline.config import ProbeConfig, Runtime
from medfocus_pipeline.evaluation.processes import processes
from medfocus_pipeline.files import replacing, sha256
from tests.stages.conftest import Medfocus, make_images, spawn


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_it_works_stops_it_with_a_message(tmp_path: Path, name: str) -> None:
    images = make_images(tmp_path / "images", train=150, size=32)
    process = spawn("masks", "shapes", "--profile", "imagenet", "--data", images, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "cache" / "shapes" / "settings.json").exists():
        assert time.monotonic() < deadline
    number = getattr(signal, name)
    process.send_signal(number)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number, told
    assert ending.MESSAGE in told
    assert "Traceback" not in told
    assert not list((tmp_path / "cache").rglob("*.partial"))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says which signals are handled")
def test_ctrl_c_while_it_still_imports_says_the_same(tmp_path: Path) -> None:
    process = spawn("heads", "list", cwd=tmp_path)
    caught = 0
    while not caught & 1 << (signal.SIGTERM - 1):  # until somebody handles signals at all
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(next(line for line in status.splitlines() if "SigCgt" in line).split()[1], 16)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, f"{ending.MESSAGE}\n")


def test_after_a_killed_first_run_the_next_stage_knows_data_and_profile(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    images = make_images(tmp_path / "images", train=4, size=32)
    process = spawn("masks", "shapes", "--profile", "imagenet", "--data", images, cwd=tmp_path)
    while not (tmp_path / "cache" / "last.json").exists():
        assert process.poll() is None
    process.kill()
    process.communicate()
    told = medfocus("embed")
    assert f"shapes: profile imagenet, data {images}" in told.out


def test_outputs_that_are_closed_or_ascii_do_no_harm(tmp_path: Path) -> None:
    command = f"{sys.executable} -m stages heads ls"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for tail in (">&-", ">&- 2>&-", "| head -c 1"):
        done = subprocess.run(
            f"{command} {tail}", shell=True, capture_output=True, text=True, env=environment
        )
        assert "Traceback" not in done.stderr
        assert "BrokenPipe" not in done.stderr


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("can't start new thread"), OSError(24, "Too many open files")],
)
def test_what_the_machine_lacks_is_one_sentence(error: BaseException) -> None:
    assert "--" in str(ending.shortage(error)) or "ulimit" in str(ending.shortage(error))


def test_an_error_of_ours_is_not_called_the_machines() -> None:
    assert ending.shortage(RuntimeError("shapes do not match")) is None


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_a_killed_writer_left_goes_with_the_next(tmp_path: Path) -> None:
    dead = tmp_path / f".file.{dead_process()}.partial"
    alive = tmp_path / f".file.{os.getppid()}.partial"
    dead.touch()
    alive.touch()
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert not dead.exists()
    assert alive.exists()


def test_prune_removes_partial_files(done: Medfocus, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "shapes"
    left = [folder / place / f".x.{dead_process()}.partial" for place in ("results", "splits")]
    for path in left:
        path.touch()
    assert "left it" in done("cache", "prune", "--yes").out
    assert not any(path.exists() for path in left)


def test_temporary_features_of_a_killed_run_go_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / "medfocus-features-old"
    left.mkdir()
    (left / "in-use.lock").touch()
    with processes(2) as within:
        assert not left.exists()
        own = next(within.files).parent
        with processes(2):
            assert own.exists()
    assert list(tmp_path.iterdir()) == []


def test_sizes_without_end_are_refused() -> None:
    with pytest.raises(ValueError, match="1000"):
        ProbeConfig(seeds=10**20)
    with pytest.raises(ValueError, match="65536"):
        Runtime(batch_size=10**20)


def test_seeds_without_end_are_refused_on_the_command_line(done: Medfocus) -> None:
    answer = done("probe", "--seeds", str(10**20))
    assert answer.code != 0
    assert "1000" in answer.err
    assert "Traceback" not in answer.err


def test_a_name_of_more_than_255_bytes_is_refused(medfocus: Medfocus) -> None:
    for arguments in (("scan", "x" * 300), ("scan", "shapes", "--data", "x" * 300)):
        answer = medfocus(*arguments)
        assert answer.code != 0
        assert "Traceback" not in answer.err


def test_settings_that_were_changed_are_used_and_said(done: Medfocus, tmp_path: Path) -> None:
    path = tmp_path / "cache" / "shapes" / "settings.json"
    assert done("cache", "verify").code == 0
    path.write_text(path.read_text().replace('"seeds": 2', '"seeds": 3'))
    answer = done("cache", "verify")
    assert answer.code == 1
    assert "settings.json is not what was written there" in answer.out
    assert "settings.json is not what was written there" in done("status").err


def test_no_views_are_refused(done: Medfocus) -> None:
    answer = done("embed", "--views", "")
    assert answer.code != 0
    assert "views" in answer.err


def test_results_that_were_changed_are_named_and_made_again(done: Medfocus, tmp_path: Path) -> None:
    path = tmp_path / "cache" / "shapes" / "results" / "predictions.parquet"
    table = pq.read_table(path)
    column = table.schema.get_field_index("predicted")
    pq.write_table(table.set_column(column, "predicted", table["class_index"]), path)
    answer = done("probe", "--fractions", "50,100", "--seeds", "2", "--workers", "1")
    assert answer.code == 1
    assert "cache verify --repair" in answer.err
    verified = done("cache", "verify")
    assert verified.code == 1
    assert "predictions.parquet" in verified.out
    assert done("cache", "verify", "--repair").code == 0
    again = done("probe", "--fractions", "50,100", "--seeds", "2", "--workers", "1")
    assert again.code == 0
    assert pq.read_table(path).equals(table)
    assert "everything is as it was written" in done("cache", "verify").out


def test_a_file_that_is_swapped_after_the_scan_is_not_stored_under_the_old_id(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    images = make_images(tmp_path / "images", train=3, test=1, size=32)
    for path in images.rglob("*.png"):  # of equal sizes, whatever is in them
        Image.open(path).save(path.with_suffix(".bmp"))
        path.unlink()
    path = images / "train" / "disc" / "disc 0.bmp"
    arguments = ("shapes", "--profile", "imagenet", "--data", images)
    assert medfocus("scan", *arguments).code == 0
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    first = medfocus("masks", *arguments)
    assert "disc 0.bmp' is another file than the scan saw" in " ".join(first.out.split())
    second = medfocus("masks", *arguments)
    assert "another file" not in second.out
    [part] = (tmp_path / "cache").glob("shapes/masks/*/index/part-000001.parquet")
    [row] = pq.read_table(part)["image_id"].to_pylist()
    assert row == sha256(path)
