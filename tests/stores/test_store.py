import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.stores import catalog
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.lock import writing
from medfocus_pipeline.stores.opening import create, open_store
from medfocus_pipeline.stores.store import Store
from tests.stores.conftest import SHARD_ROWS, SPECS, expected, ids, job, recipe


def test_opening_a_store_again_gives_the_same_store(store: Store) -> None:
    assert open_store(store.path) == store
    assert create(store.path, recipe(), SPECS, shard_rows=SHARD_ROWS) == store


def test_another_schema_version_is_refused_with_the_fix(store: Store) -> None:
    with pytest.raises(
        StoreError, match=r"schema version 1, this MedFocus writes 2\. Run: medfocus cache prune"
    ):
        open_store(store.path, expected=recipe(version=2))


def test_another_key_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="expected"):
        open_store(store.path, expected=recipe(upstream="other"))


def test_an_edited_recipe_is_refused(store: Store) -> None:
    path = store.path / "store.json"
    described = json.loads(path.read_text())
    described["recipe"]["config"]["a"] = 99
    path.write_text(json.dumps(described))
    with pytest.raises(StoreError, match="was changed after it was written"):
        open_store(store.path)


def test_a_folder_without_store_json_is_not_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a MedFocus store"):
        open_store(tmp_path)


def test_the_format_on_disk_is_pinned(store: Store) -> None:
    """What `cache/README.md` promises: change it there, here, and in the schema version."""
    fill(store, ids(3), job())
    described = json.loads((store.path / "store.json").read_text())
    assert described["format"] == 3
    assert set(described) == {
        *("format", "key", "recipe", "revision", "shard_rows", "zarr", "created", "packages"),
        "sha256",
    }
    part = store.path / "index" / "part-000000.parquet"
    with pq.ParquetFile(part, page_checksum_verification=True) as file:
        metadata = file.metadata.metadata
    content = part.read_bytes().replace(metadata[b"medfocus.sha256"], b"0" * 64)
    own = hashlib.sha256(f"{store.key}/0\n".encode() + content).hexdigest()
    assert metadata[b"medfocus.sha256"].decode() == own
    for name, (size, sha256) in json.loads(metadata[b"medfocus"])["files"].items():
        data = (store.path / name).read_bytes()
        assert (size, sha256) == (len(data), hashlib.sha256(data).hexdigest())
    array = json.loads((store.path / "data.zarr" / "value" / "zarr.json").read_text())
    assert array["zarr_format"] == 3
    assert array["data_type"] == "float32"
    assert array["dimension_names"] == ["row", "feature"]
    assert array["chunk_grid"]["configuration"]["chunk_shape"] == [SHARD_ROWS, 3]
    assert [codec["name"] for codec in array["codecs"]] == ["bytes", "zstd"]
    assert (store.path / "index" / "part-000000.parquet").is_file()
    table = store.index().table()
    assert table is not None
    assert table.column_names == ["image_id", "shard", "row", "length"]


def test_pandas_and_duckdb_read_the_index(store: Store) -> None:
    import duckdb
    import pandas as pd

    fill(store, ids(20), job())
    assert sorted(pd.read_parquet(store.path / "index")["image_id"]) == ids(20)
    found = duckdb.sql(f"select image_id from '{store.path}/index/*.parquet'").fetchall()
    assert sorted(name for (name,) in found) == ids(20)


def test_tensorstore_and_xarray_read_the_arrays(store: Store) -> None:
    import tensorstore
    import xarray

    fill(store, ids(20), job())
    wanted = np.array(list(expected(ids(20)).values()), np.float32)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(store.data / "value")}}
    np.testing.assert_array_equal(tensorstore.open(spec).result()[:20].read().result(), wanted)
    with xarray.open_zarr(store.data, consolidated=False) as dataset:
        assert dataset["value"].dims == ("row", "feature")
        np.testing.assert_array_equal(dataset["value"][:20].to_numpy(), wanted)


def test_a_second_writer_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        with pytest.raises(StoreError, match=f"process {holder.pid} on "), writing(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with writing(tmp_path):  # the dead holder's lock is released
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] != holder.pid


_HOLD = """
import sys, time
from pathlib import Path
from medfocus_pipeline.stores.lock import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_lock_is_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="work"), writing(tmp_path):
        raise ValueError("work")
    with writing(tmp_path):
        assert (tmp_path / "lock.json").exists()


def test_a_store_is_found_without_its_weights(tmp_path: Path) -> None:
    made = recipe(model={"id": "m", "files": {"w": "1"}})
    store = create(tmp_path / "masks" / "m", made, SPECS, shard_rows=SHARD_ROWS, revision="abc123")
    like = recipe(model={"id": "m", "files": {}})
    assert catalog.find(tmp_path, like, revision=None) == store
    assert catalog.find(tmp_path, like, revision="abc") == store
    assert catalog.find(tmp_path, like, revision="def") is None
    assert catalog.find(tmp_path, recipe(model={"id": "other", "files": {}}), revision=None) is None
    assert catalog.find(tmp_path, recipe(model={"id": "m"}, config={}), revision=None) is None


def test_two_stores_that_differ_in_weights_only_are_not_guessed_between(tmp_path: Path) -> None:
    for weights in ("1", "2"):
        made = recipe(model={"id": "m", "files": {"w": weights}})
        create(tmp_path / "masks" / weights, made, SPECS, shard_rows=SHARD_ROWS)
    with pytest.raises(StoreError, match="2 masks stores differ in their weights only: 1, 2"):
        catalog.find(tmp_path, recipe(model={"id": "m"}), revision=None)


def test_pruning_removes_what_nothing_uses_and_only_that(tmp_path: Path) -> None:
    used = create(tmp_path / "masks" / "used", recipe(), SPECS, shard_rows=SHARD_ROWS)
    create(tmp_path / "masks" / "old", recipe(config={}), SPECS, shard_rows=SHARD_ROWS)
    fill(used, ids(2 * SHARD_ROWS), job())
    shutil.copytree(used.path, tmp_path / "masks" / "broken")
    (tmp_path / "masks" / "broken" / "store.json").write_text("{")
    left = ids(SHARD_ROWS)
    items = catalog.prunable(tmp_path, keep={used.key}, image_ids=set(left))
    assert [item.path.name for item in items] == ["broken", "old", "part-000001.parquet"]
    for item in items:
        catalog.remove(item)
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["used"]
    assert used.index().done == set(left)
    assert used.verify() == {}
