"""Addresses as paths: what they say, when they are refused, and what trouble becomes."""

import errno
import os
import sys
from pathlib import Path

import pytest
from fsspec.registry import _registry

from medfocus_pipeline.errors import ConfigError, DataError
from medfocus_pipeline.files import put, replacing
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.places import local_copy, names_in, place
from medfocus_pipeline.project.settings import Settings
from tests.objects.conftest import Server


def test_a_path_of_this_machine_stays_what_it_is(tmp_path: Path) -> None:
    assert place("data/brain") == Path("data/brain")
    assert type(place(f"file://{tmp_path}")) is type(tmp_path)
    assert place(f"file://{tmp_path}") == tmp_path
    assert place("C:/brain") == Path("C:/brain")


def test_an_address_is_a_path_with_its_address_as_text() -> None:
    found = place(Path("memory://scans/brain"))
    assert str(found) == "memory://scans/brain"
    assert str(found / "a" / "b.png") == "memory://scans/brain/a/b.png"
    assert (found / "a/b.png").relative_to(found).as_posix() == "a/b.png"
    assert Path("studies") / found == found  # it is absolute
    assert (found.name, str(found.parent)) == ("brain", "memory://scans")
    with pytest.raises(TypeError, match="is no file of this machine"):
        os.stat(found)  # noqa: PTH116


def test_settings_remember_an_address() -> None:
    said = Settings(data=place("memory://scans/brain"), profile="paper").model_dump(mode="json")
    assert said["data"] == "memory://scans/brain"
    assert Settings.model_validate(said).data == ObjectPath("memory:", "scans/brain")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("nothing://scans", "nothing:// is no address that can be read"),
        ("memory://", "names no bucket. Name one: memory://bucket/prefix"),
    ],
)
def test_an_address_that_names_nothing_is_refused(address: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        place(address)


def test_without_its_package_an_address_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medfocus_pipeline.object_systems._systems", {})
    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigError, match=r"pip install 'medfocus-pipeline\[s3\]'"):
        place("s3://scans/brain")


def test_an_object_is_read_written_listed_and_removed(bucket: ObjectPath) -> None:
    folder = bucket / "brain"
    assert not folder.exists()
    put(folder / "a" / "one.txt", b"1")
    with replacing(folder / "two.txt") as temporary:
        temporary.write_text("zwei")
    assert (folder.is_dir(), (folder / "two.txt").is_file()) == (True, True)
    assert names_in(folder) == ["a", "two.txt"]
    assert [one.name for one in folder.below()] == ["a/one.txt", "two.txt"]
    assert [path.name for path in folder.rglob("*.txt")] == ["one.txt", "two.txt"]
    assert list(bucket.glob("*/a/one.*")) == [folder / "a" / "one.txt"]
    with local_copy(folder / "two.txt") as copy:
        assert (copy.name, copy.read_text()) == ("two.txt", "zwei")
    assert not copy.exists()
    with (folder / "two.txt").open() as file:
        assert file.read() == "zwei"
    (folder / "two.txt").unlink()
    (folder / "two.txt").unlink(missing_ok=True)
    folder.remove_below()
    assert not folder.exists()


def test_another_content_has_another_time_though_it_is_of_the_same_second(
    bucket: ObjectPath,
) -> None:
    path = bucket / "one.png"
    path.write_bytes(b"1")
    before = path.stat()
    path.write_bytes(b"2")
    [listed] = bucket.below()
    assert path.stat().st_mtime_ns != before.st_mtime_ns
    assert listed.mtime_ns == path.stat().st_mtime_ns


@pytest.mark.parametrize(
    ("answer", "kind", "number"),
    [
        (("403 Forbidden", "AccessDenied"), PermissionError, errno.EACCES),
        (("404 Not Found", "NoSuchBucket"), FileNotFoundError, errno.ENOENT),
        (("507 Insufficient Storage", "XMinioStorageFull"), OSError, errno.ENOSPC),
        (("500 Internal Server Error", "InternalError"), ConnectionError, errno.EIO),
    ],
)
def test_what_a_store_refuses_is_an_error_of_a_disk(
    bucket: ObjectPath,
    server: Server,
    answer: tuple[str, str],
    kind: type[OSError],
    number: int,
) -> None:
    server.fault = lambda method, path: answer
    with pytest.raises(kind, match=answer[1]) as raised:
        (bucket / "one").write_bytes(b"1")
    assert (raised.value.errno, raised.value.filename) == (number, str(bucket / "one"))


def test_a_body_that_breaks_off_is_that_object_and_silence_is_the_store(
    bucket: ObjectPath, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bucket / "one.png").write_bytes(b"1")
    server.fault = lambda method, path: ("break", "") if method == "GET" else None
    with pytest.raises(ConnectionError), local_copy(bucket / "one.png"):
        pass
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody is there
    monkeypatch.setattr("medfocus_pipeline.object_systems._systems", {})
    with (
        pytest.raises(DataError, match=r"cannot be reached now: .* the network or to AWS_ENDPOINT"),
        local_copy(bucket / "one.png"),
    ):
        pass
