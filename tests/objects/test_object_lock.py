"""The writer's lock in an object store: who holds it, who is dead, and where there is none."""

import json
import subprocess
import sys
from threading import Event, Thread

import pytest

from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.stores import object_lock
from medfocus_pipeline.stores.lock import holder_of, writing
from tests.objects.conftest import Server


def locks(folder: ObjectPath) -> list[str]:
    return [one.name for one in folder.objects() if one.name.startswith("lock-")]


def test_one_holds_it_until_it_ends(bucket: ObjectPath) -> None:
    assert holder_of(bucket) is None
    with writing(bucket):
        assert "since" in json.loads(holder_of(bucket) or "")
        with (
            pytest.raises(StoreError, match=r"by process \d+ on .* since 20"),
            writing(bucket),
        ):
            pass
    assert holder_of(bucket) is None
    with writing(bucket):
        assert locks(bucket) == ["lock-000002.json"]


def test_a_lock_of_a_dead_process_of_this_machine_is_taken_over(bucket: ObjectPath) -> None:
    with writing(bucket):
        told = json.loads(holder_of(bucket) or "")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (bucket / "lock-000007.json").write_text(json.dumps(told | {"pid": ended.pid}))
    with writing(bucket):
        assert locks(bucket) == ["lock-000008.json"]


def test_a_lock_of_another_machine_ends_when_nothing_was_heard(
    bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = {"pid": 1, "host": "node-7", "since": "2026-01-01", "machine": "another"}
    (bucket / "lock-000001.json").write_text(json.dumps(far))
    with (
        pytest.raises(StoreError, match=r"process 1 on node-7 .* ends 300 seconds after"),
        writing(bucket),
    ):
        pass
    monkeypatch.setattr(object_lock, "EXPIRES", -2.0)
    with writing(bucket):
        assert locks(bucket) == ["lock-000002.json"]


def test_a_holder_that_was_taken_over_says_so(
    bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_lock, "BEAT", 0.01)
    with pytest.raises(StoreError, match="Another run took over s3://"), writing(bucket):
        (bucket / "lock-000009.json").write_text("{}")
        [beating] = [one for one in object_lock.threading.enumerate() if "_stay" in one.name]
        beating.join(10)
    assert "lock-000009.json" in locks(bucket)


def test_of_many_at_a_time_one_holds_it(bucket: ObjectPath) -> None:
    held, refused, everybody = [], [], Event()

    def run(number: int) -> None:
        try:
            with writing(bucket):
                held.append(number)
                everybody.wait(20)
        except StoreError as error:
            refused.append(str(error))
            if len(refused) == 3:
                everybody.set()

    threads = [Thread(target=run, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (len(held), len(refused)) == (1, 3)


def test_a_slow_one_that_makes_an_earlier_lock_finds_the_later(bucket: ObjectPath) -> None:
    with writing(bucket):
        pass
    with writing(bucket):  # number 2; number 1 is gone, and free to be made
        assert object_lock._next(bucket, 1, b"{}") is None
        assert locks(bucket) == ["lock-000002.json"]


def test_a_store_that_makes_an_object_twice_is_refused(
    bucket: ObjectPath, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ObjectPath, "create", ObjectPath.write_bytes)  # as before 2024
    with (
        pytest.raises(StoreError, match=r"no conditional put.*Keep the cache in"),
        writing(bucket),
    ):
        pass
    assert locks(bucket) == []
    nobodys = ObjectPath("ftp:", "hospital/cache")
    with (
        pytest.raises(StoreError, match="ftp://hospital/cache is in an"),
        writing(nobodys),
    ):
        pass


def test_no_right_and_no_bucket_are_one_sentence(bucket: ObjectPath, server: Server) -> None:
    with (
        pytest.raises(StoreError, match=r"Writing in s3://nobody-has-it/cache failed, .*bucket"),
        writing(ObjectPath("s3:", "nobody-has-it/cache")),
    ):
        pass
    server.fault = lambda method, path: (
        ("403 Forbidden", "AccessDenied") if method == "PUT" else None
    )
    with (
        pytest.raises(StoreError, match="there is no right to write"),
        writing(bucket / "cache"),
    ):
        pass
