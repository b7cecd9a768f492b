import errno
import hashlib
from pathlib import Path

import pyarrow as pa
import pytest

from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.files import disk_errors, read_parquet, replacing, sha256


def test_a_file_appears_whole_with_the_folders_above_it(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, raised: type[BaseException]
) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(raised), replacing(path) as temporary:
        temporary.write_text("half")
        raise raised
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_before_anything_is_written_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="first"), replacing(tmp_path / "file.txt"):
        raise ValueError("first")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_rename_leaves_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="No space"), replacing(tmp_path / "file.txt") as temporary:
        temporary.write_text("new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "the disk is full: free some space"),
        (errno.EDQUOT, "the disk quota is used up: free some space"),
        (errno.EROFS, "the disk is read-only: choose another place with --cache"),
        (errno.EACCES, "there is no right to write: choose another place with --cache"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_a_disk_that_takes_nothing_is_one_sentence(
    tmp_path: Path, code: int, sentence: str
) -> None:
    with pytest.raises(StoreError, match=sentence) as caught, disk_errors(tmp_path):
        raise OSError(code, "strerror")
    assert str(caught.value).startswith(f"Writing in {tmp_path} failed, ")
    assert str(caught.value).endswith("what was finished is kept.")
    assert isinstance(caught.value.__cause__, OSError)


def test_an_error_that_is_not_the_disks_passes_through(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="other"), disk_errors(tmp_path):
        raise ValueError("other")


def test_a_cache_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    sentence = "choose another place with --cache"
    with pytest.raises(StoreError, match=sentence), disk_errors(tmp_path / "file"):
        (tmp_path / "file" / "folder").mkdir()


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"bytes" * 100_000)
    assert sha256(path) == hashlib.sha256(b"bytes" * 100_000).hexdigest()


def test_a_damaged_parquet_file_raises_what_callers_catch(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    path.write_bytes(b"PAR1 no more")
    with pytest.raises((OSError, pa.ArrowException)):
        read_parquet(path)
    path.unlink()  # read_parquet holds no handle on it
    assert not path.exists()
