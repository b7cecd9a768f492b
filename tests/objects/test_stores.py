"""Stores in an object store: what a folder has, bit for bit, whatever happens in between."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from medfocus_pipeline.errors import AccessError, StoreError
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.stores import catalog, index
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.index import compaction
from medfocus_pipeline.stores.job import Block
from medfocus_pipeline.stores.lock import writing
from medfocus_pipeline.stores.opening import create, open_store
from medfocus_pipeline.stores.store import Store
from tests.objects.conftest import Server
from tests.stores.conftest import SHARD_ROWS, SPECS, block, contents, expected, ids, job, recipe


@pytest.fixture
def store(bucket: ObjectPath) -> Store:
    return create(
        bucket / "cache" / "brain" / "masks" / "fake-00000000",
        recipe(),
        SPECS,
        shard_rows=SHARD_ROWS,
    )


def files(folder: Path) -> dict[str, bytes]:
    """What a store has, but for the time in its description."""
    names = [one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()]
    return {name: (folder / name).read_bytes() for name in names if name != "store.json"}


def test_a_store_is_what_it_is_in_a_folder(store: Store, tmp_path: Path) -> None:
    local = create(tmp_path / "fake-00000000", recipe(), SPECS, shard_rows=SHARD_ROWS)
    fill(store, ids(20), job())
    fill(local, ids(20), job())
    assert files(store.path) == files(local.path)
    assert (store.recipe, store.zarr) == (local.recipe, local.zarr)
    again = open_store(store.path, expected=recipe())
    assert contents(again) == expected(ids(20))
    assert again.verify() == {}


def test_zarr_reads_it_through_its_own_store(store: Store) -> None:
    import zarr

    fill(store, ids(20), job())
    array = zarr.open_array(f"{store.data}/value", mode="r")
    np.testing.assert_array_equal(array[:20], list(expected(ids(20)).values()))


def test_what_is_damaged_or_gone_is_computed_again(store: Store) -> None:
    fill(store, ids(24), job())
    chunk, part = store.data / "value" / "c" / "0" / "0", store.part_path(1)
    chunk.write_bytes(b"less")
    part.write_bytes(part.read_bytes()[:-3] + b"xyz")
    assert set(store.index().damaged) == {0, 1}
    assert fill(store, ids(24), job()).computed == 2 * SHARD_ROWS
    assert contents(store) == expected(ids(24))


def test_asking_what_is_done_lists_and_never_asks_for_each_file(
    store: Store, server: Server
) -> None:
    fill(store, ids(80), job())
    server.asked.clear()
    assert len(store.index(columns=["image_id"])) == 80
    assert [method for method, _ in server.asked].count("HEAD") == 0
    assert len(server.asked) <= 10 + 4  # the parts, and a few listings


def test_a_kill_after_any_step_of_compaction_loses_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_FEW", 2)
    monkeypatch.setattr("medfocus_pipeline.stores.segments.SHARDS", 3)
    monkeypatch.setattr(Store, "compact", lambda self: None)
    fill(store, ids(32), job())
    steps: Iterator[Path] = compaction(store.path, key=store.key)
    count = 0
    for _ in steps:
        count += 1
        assert contents(store) == expected(ids(32))
    assert count == 2 + 4  # segments and parts
    store.drop([0])
    assert set(contents(store)) == set(ids(24, SHARD_ROWS))


@pytest.mark.parametrize("where", ["data.zarr/value/c", "index/part-000001"])
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (("507 Insufficient Storage", "XMinioStorageFull"), "the disk is full: free some space"),
        (("403 Forbidden", "AccessDenied"), "there is no right to write"),
        (("500 Internal Server Error", "InternalError"), "InternalError it is: see to the network"),
    ],
)
def test_a_store_that_takes_no_more_is_one_sentence_and_keeps_what_is_done(
    store: Store, server: Server, where: str, answer: tuple[str, str], why: str
) -> None:
    fill(store, ids(SHARD_ROWS), job())
    server.fault = lambda method, path: answer if method == "PUT" and where in path else None
    with pytest.raises(StoreError, match=f"Writing in s3://.* failed, {why}"):
        fill(store, ids(2 * SHARD_ROWS), job())
    server.fault = lambda method, path: None
    assert contents(store) == expected(ids(SHARD_ROWS))
    assert fill(store, ids(2 * SHARD_ROWS), job()).computed == SHARD_ROWS


def test_what_cannot_be_read_now_is_no_damage(store: Store, server: Server) -> None:
    fill(store, ids(8), job())
    server.fault = lambda method, path: (
        ("403 Forbidden", "AccessDenied") if method == "GET" and "index/part" in path else None
    )
    with pytest.raises(AccessError, match="cannot be read now: AccessDenied"):
        store.index()
    server.fault = lambda method, path: None
    assert fill(store, ids(8), job()).computed == 0


def test_a_store_is_listed_and_removed(store: Store) -> None:
    fill(store, ids(8), job())
    dataset = store.path.parent.parent
    assert list(catalog.store_folders(dataset)) == [store.path]
    [one] = catalog.prunable(dataset, keep=set(), image_ids=set(ids(8)))
    assert one.size > 1000
    catalog.remove(one)
    assert not store.path.exists()


def test_a_writer_is_seen_by_another(store: Store) -> None:
    def compute(some: Sequence[str]) -> Block:
        with pytest.raises(StoreError, match="is being written by process"), writing(store.path):
            pass
        return block(some)

    with writing(store.path):
        fill(store, ids(3), job(compute=compute))
    with writing(store.path):
        assert contents(store) == expected(ids(3))
