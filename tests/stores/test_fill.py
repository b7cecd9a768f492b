import logging
import re
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medfocus_pipeline.columns import id_array
from medfocus_pipeline.errors import ImageError, StoreError
from medfocus_pipeline.stores import index
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.job import Block, compute_all
from medfocus_pipeline.stores.opening import create
from medfocus_pipeline.stores.parts import part_path
from medfocus_pipeline.stores.store import Store
from tests.stores.conftest import (
    SHARD_ROWS,
    SPECS,
    block,
    contents,
    expected,
    ids,
    job,
    recipe,
    row,
)


def data_files(store: Store) -> dict[str, bytes]:
    return {
        str(path.relative_to(store.path)): path.read_bytes()
        for path in sorted(store.path.rglob("*"))
        if path.is_file() and path.name != "store.json" and "lock" not in path.name
    }


@pytest.mark.parametrize(
    "count", [0, 1, SHARD_ROWS - 1, SHARD_ROWS, SHARD_ROWS + 1, 3 * SHARD_ROWS]
)
def test_every_row_is_there_once_and_is_its_own(store: Store, count: int) -> None:
    seen: list[int] = []
    outcome = fill(store, ids(count), job(), on_rows=seen.append)
    assert outcome.computed == sum(seen) == count
    assert contents(store) == expected(ids(count))


def test_a_second_run_computes_nothing(store: Store) -> None:
    fill(store, ids(20), job())
    before = data_files(store)
    assert fill(store, ids(20), job()).computed == 0
    assert data_files(store) == before


def test_new_images_alone_are_computed(store: Store) -> None:
    fill(store, ids(20), job())
    asked: list[str] = []

    def compute(batch: Sequence[str]) -> Block:
        asked.extend(batch)
        return block(batch)

    fill(store, ids(30), job(compute=compute))
    assert asked == ids(10, start=20)
    assert contents(store) == expected(ids(30))


def test_an_id_that_stands_twice_is_one_row(store: Store) -> None:
    assert fill(store, ids(5) * 2, job()).computed == 5


@pytest.mark.parametrize("count", [0, 1, 20])
def test_inputs_in_memory_come_back_in_order(count: int) -> None:
    blocks = compute_all(job(calls=3), ids(count))
    rows = [values for found in blocks for values in found.arrays["value"].tolist()]
    assert rows == [row(id_).tolist() for id_ in ids(count)]


@pytest.mark.parametrize("at_once", [1, 1 << 16], ids=["shard by shard", "all shards at once"])
@pytest.mark.parametrize("order", ["as stored", "reversed", "others between", "first gone"])
def test_what_is_missing_does_not_depend_on_the_order(
    store: Store, monkeypatch: pytest.MonkeyPatch, order: str, at_once: int
) -> None:
    monkeypatch.setattr(index, "_LOOKED_UP", at_once)
    stored, new = ids(37), [f"new {number}" for number in range(37)]
    fill(store, stored, job())
    asked = {
        "as stored": [*stored, *new],
        "reversed": [*new, *stored[::-1]],
        "others between": [one for pair in zip(stored, new, strict=True) for one in pair],
        "first gone": [*stored[1:20], *new, *stored[25:]],
    }[order]
    assert store.survey(id_array(asked)).missing.to_pylist() == new


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lost=st.sets(st.integers(0, 4), max_size=5), batch_size=st.integers(1, 20))
def test_lost_shards_come_back_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, lost: set[int], batch_size: int
) -> None:
    store = create(tmp_path_factory.mktemp("s") / "store", recipe(), SPECS, shard_rows=SHARD_ROWS)
    fill(store, ids(37), job())
    before = data_files(store)
    store.drop(lost)
    assert len(store.survey(id_array(ids(37))).missing) == sum(
        5 if shard == 4 else SHARD_ROWS for shard in lost
    )
    fill(store, ids(37), job(batch_size=batch_size))
    assert data_files(store) == before


@pytest.mark.parametrize("harm", ["truncate", "delete", "index"])
def test_a_damaged_shard_is_reported_and_computed_again(
    store: Store, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(store, ids(20), job())
    before = data_files(store)
    victim = store.path / "data.zarr" / "value" / "c" / "1" / "0"
    if harm == "truncate":
        victim.write_bytes(victim.read_bytes()[:-1])
    elif harm == "delete":
        victim.unlink()
    else:
        part_path(store.path, 1).write_bytes(b"PAR1 no more")
    with caplog.at_level(logging.WARNING):
        assert fill(store, ids(20), job()).computed == SHARD_ROWS
    assert "shard 1 will be computed again" in caplog.text
    assert data_files(store) == before


def test_a_flipped_bit_is_found_by_reading_and_by_verify(store: Store) -> None:
    fill(store, ids(20), job())
    victim = store.path / "data.zarr" / "value" / "c" / "1" / "0"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    assert list(store.verify()) == [1]
    with pytest.raises(StoreError, match="cache verify --repair"):
        store.read(store.index().parts[1])


def test_calls_run_side_by_side_and_write_the_same_bytes(store: Store, tmp_path: Path) -> None:
    fill(store, ids(40), job())
    both = threading.Barrier(2)

    def compute(batch: Sequence[str]) -> Block:
        both.wait(timeout=60)  # broken, and an error, unless another call runs
        return block(batch)

    other = create(tmp_path / "other", recipe(), SPECS, shard_rows=SHARD_ROWS)
    fill(other, ids(40), job(batch_size=2, compute=compute, calls=2))
    assert data_files(other) == data_files(store)


def test_a_failure_in_one_of_several_calls_ends_the_run(store: Store) -> None:
    def compute(batch: Sequence[str]) -> Block:
        if ids(40)[20] in batch:
            raise RuntimeError("shapes do not match")
        return block(batch)

    with pytest.raises(RuntimeError, match="shapes"):
        fill(store, ids(40), job(compute=compute, calls=3))
    assert {id_ for part in store.index().parts.values() for id_ in part.image_ids} <= set(ids(16))


def test_an_unreadable_image_is_left_out_and_named(store: Store) -> None:
    def load(id_: str) -> str:
        if id_.endswith("3"):
            raise ImageError(f"{id_} is truncated.")
        return id_

    outcome = fill(store, ids(20), job(load=load))
    assert outcome.problems == {
        id_: f"{id_} is truncated." for id_ in ("image-00003", "image-00013")
    }
    assert set(contents(store)) == {id_ for id_ in ids(20) if not id_.endswith("3")}


def test_a_shard_of_unreadable_images_only_is_not_written(store: Store) -> None:
    def load(id_: str) -> str:
        raise ImageError("gone")

    assert fill(store, ids(3), job(load=load)).computed == 0
    assert store.index().parts == {}


@pytest.mark.parametrize("calls", [1, 3])
def test_out_of_memory_halves_the_batch_says_so_once_and_goes_on(
    store: Store, caplog: pytest.LogCaptureFixture, calls: int
) -> None:
    sizes: list[int] = []

    def compute(batch: Sequence[str]) -> Block:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return block(batch)

    with caplog.at_level(logging.WARNING):
        fill(store, ids(16), job(batch_size=4, compute=compute, calls=calls))
    assert contents(store) == expected(ids(16))
    assert sizes[0] == 4
    assert max(sizes[calls:]) == 2
    assert len(re.findall("Out of memory", caplog.text)) == 1


def test_out_of_memory_with_one_image_ends_the_run(store: Store) -> None:
    def compute(batch: Sequence[str]) -> Block:
        raise MemoryError

    with pytest.raises(MemoryError):
        fill(store, ids(3), job(compute=compute))


def test_another_failure_is_not_taken_for_memory(store: Store) -> None:
    def compute(batch: Sequence[str]) -> Block:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        fill(store, ids(3), job(compute=compute))


def test_a_value_that_is_not_finite_is_refused(store: Store) -> None:
    def compute(batch: Sequence[str]) -> Block:
        computed = block(batch)
        computed.arrays["value"][0] = np.inf
        return computed

    with pytest.raises(StoreError, match="value of shard 0 is not finite"):
        fill(store, ids(3), job(compute=compute))
    assert store.index().parts == {}


def test_what_a_killed_writer_left_is_removed(store: Store) -> None:
    leftover = store.path / "data.zarr" / "value" / "c" / "0" / "0.abc.partial"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    fill(store, ids(3), job())
    assert not leftover.exists()


def test_rows_read_ahead_are_bounded(store: Store) -> None:
    loaded = computed = 0
    ahead: list[int] = []

    def load(id_: str) -> str:
        nonlocal loaded
        loaded += 1
        return id_

    def compute(batch: Sequence[str]) -> Block:
        nonlocal computed
        ahead.append(loaded - computed)
        computed += len(batch)
        return block(batch)

    fill(store, ids(400), job(batch_size=4, load=load, compute=compute))
    assert max(ahead) <= 4 * 4


def test_a_full_disk_is_one_sentence(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medfocus_pipeline.files.flush", full)
    with pytest.raises(StoreError, match="the disk is full: free some space"):
        fill(store, ids(3), job())
