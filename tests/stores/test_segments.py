"""Parts become segments: whatever happens in between, the rows stay those that were written."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from medfocus_pipeline import sealed
from medfocus_pipeline.project.located import Open, to_fill
from medfocus_pipeline.stores import catalog, segments
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.index import compaction, read_index
from medfocus_pipeline.stores.job import Block, Job
from medfocus_pipeline.stores.lock import writing
from medfocus_pipeline.stores.opening import create, fitting_rows, open_store
from medfocus_pipeline.stores.parts import part_path
from medfocus_pipeline.stores.segments import SHARDS, segment_path
from medfocus_pipeline.stores.store import Store
from tests.stores.conftest import SPECS, block, contents, expected, ids, job, recipe

COUNT = 70
"""Shards, of one row: more than are left alone."""

DEAD = 2**31 - 1
"""Number that no process has."""


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store as a run leaves it that is killed before it compacts."""
    path = tmp_path_factory.mktemp("cache") / "masks" / "loose"
    store = create(path, recipe(), SPECS[:1], shard_rows=1)
    store.reserve(COUNT)
    for shard, name in enumerate(ids(COUNT)):
        rows = block([name])
        store.write(shard, [name], {"value": rows.arrays["value"]}, rows.columns)
    return store


@pytest.fixture
def store(loose: Store, tmp_path: Path) -> Store:
    shutil.copytree(loose.path, tmp_path / "masks" / "loose")
    return open_store(tmp_path / "masks" / "loose")


def files(store: Store) -> list[str]:
    return sorted(path.name for path in (store.path / "index").iterdir())


def test_many_parts_become_one_segment_with_the_same_rows(store: Store) -> None:
    before = store.index().table()
    store.compact()
    assert files(store) == ["segment-000000.parquet"]
    after = store.index().table()
    assert before is not None
    assert after is not None
    assert after.to_pylist() == before.to_pylist()
    assert contents(store) == expected(ids(COUNT))
    assert store.verify() == {}


def test_filling_compacts_and_goes_on_behind_the_segment(store: Store) -> None:
    outcome = fill(store, ids(COUNT + 2), job_of_values())
    assert outcome.computed == 2
    assert files(store) == ["segment-000000.parquet"]
    assert fill(store, ids(COUNT + 3), job_of_values()).computed == 1
    assert files(store) == [f"part-{COUNT + 2:06d}.parquet", "segment-000000.parquet"]
    assert contents(store) == expected(ids(COUNT + 3))


def test_a_kill_after_any_step_loses_nothing(store: Store) -> None:
    wanted = set(ids(COUNT))
    for step, _ in enumerate(compaction(store.path, key=store.key)):
        found = store.index()
        assert (found.done, found.damaged, len(found)) == (wanted, {}, COUNT)
        if step in {0, COUNT // 2}:
            copy = store.path.with_name(f"killed-{step}")
            shutil.copytree(store.path, copy)
            (copy / "index" / f".part.parquet.{os.getpid()}.partial").write_bytes(b"PAR1")
            killed = open_store(copy)
            assert fill(killed, ids(COUNT), job_of_values()).computed == 0
            killed.compact()
            assert killed.index().table() == found.table()
            assert fill(killed, ids(COUNT + 1), job_of_values()).computed == 1
            assert killed.verify() == {}
            assert contents(killed) == expected(ids(COUNT + 1))
    assert files(store) == ["segment-000000.parquet"]


def test_a_kill_while_the_segment_is_written_leaves_the_parts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`os.replace` is what makes the segment: a process that dies before it must lose nothing."""

    def dies(_: Path, target: Path) -> None:
        raise KeyboardInterrupt(target.name)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", dies)
        with pytest.raises(KeyboardInterrupt, match="segment-000000"):
            store.compact()
    assert len(files(store)) == COUNT
    assert store.index().done == set(ids(COUNT))


def test_a_run_with_nothing_to_do_finishes_the_merging_that_a_kill_cut_off(store: Store) -> None:
    left = store.path / "index" / f".segment-000000.parquet.{DEAD}.partial"
    left.write_bytes(b"PAR1")
    place = Open("loose", pa.array(ids(COUNT)), store)
    with writing(store.path):  # another run's
        assert not to_fill(place)
    assert len(files(store)) == COUNT + 1
    assert not to_fill(place)
    assert files(store) == ["segment-000000.parquet"]
    assert contents(store) == expected(ids(COUNT))


def test_a_reader_that_listed_the_parts_before_finds_them_in_the_segment(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer compacts right after the reader's first look: only `os.listdir` is between."""
    listed: list[list[str]] = []
    real = os.listdir

    def look(folder: Path) -> list[str]:
        names = real(folder)
        listed.append(names)
        if len(listed) == 1:
            monkeypatch.undo()
            store.compact()
        return names

    monkeypatch.setattr(os, "listdir", look)
    found = read_index(store.path, key=store.key)
    assert len(listed[0]) == COUNT
    assert files(store) == ["segment-000000.parquet"]
    assert (found.done, found.damaged) == (set(ids(COUNT)), {})


def test_a_damaged_segment_is_named_and_its_rows_alone_are_computed_again(store: Store) -> None:
    store.compact()
    fill(store, ids(COUNT + 1), job_of_values())
    path = segment_path(store.path, 0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    [(shard, why)] = store.verify().items()
    assert (shard, f"segment 0, of up to {SHARDS} shards" in why) == (0, True)
    assert fill(store, ids(COUNT + 1), job_of_values()).computed == COUNT
    assert store.verify() == {}
    assert contents(store) == expected(ids(COUNT + 1))


@pytest.mark.parametrize("harm", ["missing", "shorter", "other bytes"])
def test_damaged_data_behind_a_segment_is_found_and_computed_again(store: Store, harm: str) -> None:
    store.compact()
    path = store.path / next(iter(store.index().parts[5].files))
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if harm == "shorter" else content[::-1])
    if harm != "other bytes":  # which reading alone finds
        assert list(store.index().damaged) == [5]
    assert list(store.verify()) == [5]
    store.drop([5])
    assert store.index().done == set(ids(COUNT)) - {ids(COUNT)[5]}
    assert fill(store, ids(COUNT), job_of_values()).computed == 1
    assert contents(store) == expected(ids(COUNT))


def test_pruning_takes_shards_out_of_a_segment(store: Store) -> None:
    store.compact()
    left = set(ids(COUNT)[:-2])
    items = catalog.prunable(store.path.parents[1], keep={store.key}, image_ids=left)
    assert [item.path.name for item in items] == [
        part_path(store.path, shard).name for shard in (COUNT - 2, COUNT - 1)
    ]
    for item in items:
        catalog.remove(item)
    assert store.index().done == left
    assert store.verify() == {}
    store.drop(range(COUNT))
    assert files(store) == []


def test_a_segment_of_another_store_is_not_taken(store: Store, tmp_path: Path) -> None:
    other = create(tmp_path / "masks" / "other", recipe(config={}), SPECS[:1], shard_rows=1)
    store.compact()
    shutil.copytree(store.path / "index", other.path / "index")
    assert other.index().parts == {}


def test_a_store_of_format_2_is_read_filled_and_given_no_segment(store: Store) -> None:
    """An earlier MedFocus, which knows parts alone, may go on with it."""
    path = store.path / "store.json"
    described = json.loads(path.read_text())
    del described["sha256"]
    sealed.write_json(path, described | {"format": 2}, owner="store")
    old = open_store(store.path)
    assert fill(old, ids(COUNT + 1), job_of_values()).computed == 1
    assert len(files(old)) == COUNT + 1
    assert contents(old) == expected(ids(COUNT + 1))


@pytest.mark.parametrize(
    ("shard_rows", "rows", "arrays", "wanted"),
    [(64, 100, 1, 64), (64, 100_000, 1, 64), (64, 1_000_000, 1, 256), (256, 1_000_000, 4, 1024)],
)
def test_shards_grow_with_the_collection(
    shard_rows: int, rows: int, arrays: int, wanted: int
) -> None:
    found = fitting_rows(shard_rows, rows=rows, arrays=arrays)
    assert found == wanted
    assert -(-rows // found) * arrays < 5000


def job_of_values() -> Job[str]:
    """`job`, of one array."""

    def compute(names: Sequence[str]) -> Block:
        rows = block(names)
        return Block({"value": rows.arrays["value"]}, rows.columns)

    return job(compute=compute)


def test_asking_what_is_missing_imports_no_pandas(store: Store) -> None:
    """It is installed here, and half a second that a run with nothing to do is spared."""
    names = ids(COUNT + 1)
    code = f"""
import sys
from pathlib import Path
from medfocus_pipeline.columns import id_array
from medfocus_pipeline.stores.opening import open_store
found = open_store(Path({str(store.path)!r})).survey(id_array({names!r}))
print(found.missing.to_pylist(), "pandas" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE)
    assert run.stdout.decode().split() == [f"['{names[-1]}']", "False"]


def test_each_segment_has_its_own_shards(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of 32 shards: a store with several of 256 takes long to write."""
    monkeypatch.setattr(segments, "SHARDS", 32)
    store.compact()
    assert files(store) == [f"segment-{number:06d}.parquet" for number in range(3)]
    others = [segment_path(store.path, number).read_bytes() for number in (0, 2)]
    store.drop([40])
    assert [segment_path(store.path, number).read_bytes() for number in (0, 2)] == others
    assert list(store.index().parts) == [shard for shard in range(COUNT) if shard != 40]
    segment_path(store.path, 1).write_bytes(b"PAR1 no more")
    assert list(store.index().damaged) == [32]
    assert store.index().done == set(ids(COUNT)) - set(ids(32, start=32))
