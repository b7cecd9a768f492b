"""What is in a cache is what was written there, or it is named."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfocus_pipeline.errors import AccessError, DamagedError, StoreError
from medfocus_pipeline.sealed import parse_json, read_json, write_json
from medfocus_pipeline.sealed_tables import SealedTable, read_table, write_table
from medfocus_pipeline.stores import catalog
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.opening import create, open_store
from medfocus_pipeline.stores.parts import Content, part_path, write_part
from medfocus_pipeline.stores.store import Store
from tests.stores.conftest import SHARD_ROWS, SPECS, contents, expected, ids, job, recipe

TABLE = pa.table({"name": ["a", "b", None], "score": [0.25, 0.5, 0.75]})


def test_a_flip_anywhere_in_a_table_is_found(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    write_table(path, TABLE, owner="here")
    assert read_table(path, owner="here").equals(TABLE)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for bit in rng.choice(8 * len(whole), 300, replace=False):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(changed)
        with pytest.raises(DamagedError, match=r"table\.parquet"):
            read_table(path, owner="here")


def test_a_table_written_by_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    write_table(path, TABLE, owner="here")
    pq.write_table(pq.read_table(path), path)
    with pytest.raises(DamagedError, match="has no seal"):
        read_table(path, owner="here")


def test_a_table_of_another_owner_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", TABLE, owner="here")
    with pytest.raises(DamagedError, match="is not what was written there"):
        read_table(tmp_path / "t.parquet", owner="there")


def test_columns_are_those_of_the_file_that_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, TABLE, owner="here")
    opened = SealedTable(path, owner="here")
    first = opened["score"]
    write_table(path, TABLE.slice(1), owner="here")
    assert opened.num_rows == 3
    assert opened.whole().equals(TABLE)
    assert opened["score"] is first
    assert SealedTable(path, owner="here").num_rows == 2


@pytest.mark.parametrize("fault", ["missing", "changed", "another's"])
def test_a_table_is_checked_before_its_first_column_is_read(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "t.parquet"
    if fault != "missing":
        write_table(path, TABLE, owner="there" if fault == "another's" else "here")
    if fault == "changed":
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"t\.parquet"):
        SealedTable(path, owner="here")


def test_a_sealed_table_has_page_checksums(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, pa.table({"x": np.arange(5000)}), owner="")
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with (
        pytest.raises(OSError, match="CRC"),
        pq.ParquetFile(path, page_checksum_verification=True) as file,
    ):
        file.read()


def test_json_that_was_changed_or_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    write_json(path, {"rows": 64}, owner="here")
    assert read_json(path, owner="here") == {"rows": 64}
    path.write_text(path.read_text().replace("64", "65"))
    with pytest.raises(DamagedError, match="was changed"):
        read_json(path, owner="here")
    path.write_text("[" * 100_000)
    with pytest.raises(DamagedError, match="is no JSON"):
        parse_json(path)


def test_a_file_that_cannot_be_read_now_is_not_damaged(tmp_path: Path) -> None:
    (tmp_path / "folder.parquet").mkdir()  # root may read everything; nobody reads a folder
    with pytest.raises(AccessError, match="cannot be read now"):
        read_table(tmp_path / "folder.parquet", owner="")


def test_a_part_that_cannot_be_read_now_is_not_computed_again(store: Store) -> None:
    fill(store, ids(20), job())
    part = store.part_path(1)
    part.rename(part.with_suffix(".aside"))
    part.mkdir()
    with pytest.raises(AccessError, match="part-000001"):
        fill(store, ids(20), job())
    part.rmdir()
    part.with_suffix(".aside").rename(part)
    assert contents(store) == expected(ids(20))


def test_a_store_that_cannot_be_read_now_is_not_pruned(store: Store) -> None:
    described = store.path / "store.json"
    described.rename(described.with_suffix(".aside"))
    described.mkdir()
    dataset = store.path.parents[1]
    with pytest.raises(AccessError, match="cannot be read now"):
        catalog.prunable(dataset, keep=set(), image_ids=set())
    with pytest.raises(AccessError, match="cannot be read now"):
        catalog.open_stores(dataset, "masks")


def test_swapped_image_ids_are_found_and_computed_again(store: Store) -> None:
    fill(store, ids(20), job())
    path = part_path(store.path, 0)
    with pq.ParquetFile(path) as file:
        table = file.read()
    names = table["image_id"].to_pylist()[::-1]
    pq.write_table(table.set_column(0, "image_id", pa.array(names)), path)
    assert list(store.verify()) == [0]
    assert fill(store, ids(20), job()).computed == SHARD_ROWS
    assert contents(store) == expected(ids(20))


def test_data_and_index_of_another_store_are_not_taken(store: Store, tmp_path: Path) -> None:
    other = create(tmp_path / "masks" / "other", recipe(config={}), SPECS, shard_rows=SHARD_ROWS)
    fill(other, ids(8, start=100), job())
    fill(store, ids(8), job())
    for name in ("data.zarr", "index"):
        shutil.rmtree(store.path / name)
        shutil.copytree(other.path / name, store.path / name)
    assert store.index().parts == {}
    assert fill(store, ids(8), job()).computed == 8
    assert contents(store) == expected(ids(8))


def test_a_part_in_the_place_of_another_is_not_taken(store: Store) -> None:
    fill(store, ids(16), job())
    shutil.copyfile(part_path(store.path, 0), part_path(store.path, 1))
    assert list(store.index().parts) == [0]


def test_changed_rows_a_shard_are_refused(store: Store) -> None:
    path = store.path / "store.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps(described | {"shard_rows": 4}))
    with pytest.raises(DamagedError, match="was changed after it was written"):
        open_store(store.path)


def test_a_changed_description_of_an_array_is_named_and_made_anew(store: Store) -> None:
    fill(store, ids(20), job())
    path = store.data / "value" / "zarr.json"
    path.write_text(path.read_text().replace("float32", "int32"))
    with pytest.raises(DamagedError, match=r"value/zarr\.json"):
        contents(store)
    fill(store, ids(20), job())
    assert contents(store) == expected(ids(20))


def test_a_store_of_an_earlier_format_is_refused_by_name(store: Store) -> None:
    path = store.path / "store.json"
    described = json.loads(path.read_text())
    for name in ("format", "zarr", "sha256"):
        del described[name]
    path.write_text(json.dumps(described))
    with pytest.raises(StoreError, match=r"has format 1, this MedFocus writes 3.*cache prune"):
        open_store(store.path)


@pytest.mark.parametrize("how", ["parent", "absolute", "link", "store"])
def test_no_path_in_a_store_leads_out_of_its_data(store: Store, tmp_path: Path, how: str) -> None:
    victim = tmp_path / "victim" / "0"
    victim.parent.mkdir()
    victim.write_text("precious")
    name = {
        "parent": "data.zarr/value/../../../../victim/0",
        "absolute": str(victim),
        "link": "data.zarr/value/c/0/0",
        "store": "store.json",
    }[how]
    if how == "link":
        (store.data / "value" / "c").mkdir()
        (store.data / "value" / "c" / "0").symlink_to(victim.parent)
    write_part(
        store.path,
        0,
        key=store.key,
        image_ids=["gone"],
        first_row=0,
        columns={},
        files={name: Content(victim.stat().st_size, "0" * 64)},
    )
    assert list(store.index().damaged) == [0]
    dataset = store.path.parents[1]
    for item in catalog.prunable(dataset, keep={store.key}, image_ids=set()):
        catalog.remove(item)
    assert victim.read_text() == "precious"
    assert open_store(store.path) == store


def test_a_link_to_a_folder_is_removed_and_not_followed(store: Store, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    shutil.copytree(store.path, victim)
    (store.path.parent / "link").symlink_to(victim)
    items = catalog.prunable(store.path.parents[1], keep=set(), image_ids=set())
    for item in items:
        catalog.remove(item)
    assert (victim / "store.json").is_file()
    assert list(store.path.parent.iterdir()) == []


@given(
    st.lists(st.tuples(st.text(max_size=3), st.integers(0, 9)), max_size=5),
    st.sampled_from([1, 30_000]),
)
def test_columns_read_when_asked_for_are_those_of_the_table(
    rows: list[tuple[str, int]], times: int
) -> None:
    table = pa.table(
        {"name": [name for name, _ in rows] * times, "n": [n for _, n in rows] * times},
        schema=pa.schema([("name", pa.string()), ("n", pa.int64())]),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.parquet")
        write_table(path, table, owner="")
        found = SealedTable(path, owner="")
        assert found["name"].to_pylist() == table["name"].to_pylist()
        assert found.whole().equals(table)
        del found
