import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medfocus_pipeline.config import MasksConfig, Sam2Config, ThresholdConfig
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.segmentation import MaskReader, array_specs, job, recipe
from medfocus_pipeline.segmenters.protocol import Segmenter
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.opening import create
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import Candidates, Image, ModelIdentity
from tests.fakes import FakeSegmenter, candidates, picture

CONFIG = MasksConfig(segmenter=ThresholdConfig(), max_candidates=4, frame=16)
IDENTITY = ModelIdentity("fake", None, {"weights": "abc"})
IDS = [f"image {number}" for number in range(20)]
SHARD_ROWS = 4


def fill_store(
    folder: Path, segmenter: Segmenter, read: Callable[[str], Image], ids: Sequence[str]
) -> Store:
    specs = array_specs(CONFIG)
    store = create(folder, recipe(CONFIG, IDENTITY), specs, shard_rows=SHARD_ROWS)
    outcome = fill(store, ids, job(segmenter, CONFIG, read, batch_size=None, workers=2))
    assert outcome.problems == {}
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return fill_store(tmp_path / "store", FakeSegmenter(), picture, IDS)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Shards in the order in which they are read from disk."""
    asked: list[int] = []
    real = Store.read

    def read(self, part, **options):
        asked.append(part.shard)
        return real(self, part, **options)

    monkeypatch.setattr(Store, "read", read)
    return asked


def assert_same(got: Candidates, expected: Candidates) -> None:
    for name in ("masks", "score", "stability", "support", "area", "boxes"):
        one, other = getattr(got, name), getattr(expected, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def segmented(image_id: str) -> Candidates:
    [found] = FakeSegmenter().segment([picture(image_id)])
    return found


@settings(max_examples=15)
@given(
    found=st.lists(
        st.integers(0, 4).flatmap(lambda k: arrays(np.bool_, (k, 16, 16))), min_size=1, max_size=6
    ),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_candidates_are_read_exactly_as_they_were_found(
    tmp_path_factory: pytest.TempPathFactory, found: list[np.ndarray], size: tuple[int, int]
) -> None:
    proposed = [candidates(masks, size=size) for masks in found]

    class Prepared:
        batch_size = 2

        def segment(self, images: Sequence[Image]) -> list[Candidates]:
            return [proposed[image[0, 0, 0]] for image in images]

    def read(image_id: str) -> Image:
        return np.full((*size, 3), int(image_id), np.uint8)

    ids = [str(number) for number in range(len(found))]
    reader = MaskReader(fill_store(tmp_path_factory.mktemp("m") / "s", Prepared(), read, ids))
    for image_id, expected in zip(ids, proposed, strict=True):
        assert_same(reader(image_id), expected)
        assert reader.size(image_id) == size


def test_an_image_without_candidates_has_none(tmp_path: Path) -> None:
    def read(image_id: str) -> Image:
        return np.zeros((5, 7, 3), np.uint8) if image_id == "black" else picture(image_id)

    store = fill_store(tmp_path / "s", FakeSegmenter(), read, ["one", "black", "two"])
    found = MaskReader(store)("black")
    assert len(found) == 0
    assert found.masks.shape == (0, 16, 16)
    assert found.boxes.shape == (0, 4)
    table = store.index().table()
    assert table["image_id"].to_pylist() == ["one", "black", "two"]
    assert table["candidates"].to_pylist() == [3, 0, 3]
    assert (set(table["height"].to_pylist()), set(table["width"].to_pylist())) == ({5, 12}, {7, 10})


def test_duckdb_asks_the_index_what_is_known_of_the_candidates(store: Store) -> None:
    import duckdb

    asked = f"select image_id, list_max(score), boxes[1][3] from '{store.path}/index/*.parquet'"
    for image_id, best, right in duckdb.sql(asked).fetchall():
        expected = segmented(image_id)
        assert best == expected.score.max()
        assert right == expected.boxes[0, 2]
    assert sorted(path.name for path in store.data.iterdir()) == ["masks", "zarr.json"]


def test_a_score_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    class Unsure:
        batch_size = 1

        def segment(self, images: Sequence[Image]) -> list[Candidates]:
            found = FakeSegmenter().segment(images)
            for one in found:
                one.score[0] = np.nan
            return found

    with pytest.raises(StoreError, match="score of shard 0 is not finite"):
        fill_store(tmp_path / "store", Unsure(), picture, IDS[:1])


def test_a_reader_knows_which_images_it_has(store: Store) -> None:
    reader = MaskReader(store)
    assert all(image_id in reader for image_id in IDS)
    assert "another" not in reader


def test_a_shard_is_read_once_in_the_stores_order(store: Store, reads: list[int]) -> None:
    reader = MaskReader(store)
    for image_id in IDS:
        reader(image_id)
    assert reads == [0, 1, 2, 3, 4]


def test_the_shard_used_last_is_not_the_one_that_goes(store: Store, reads: list[int]) -> None:
    reader = MaskReader(store)
    for number in (0, 4, 0, 8, 0):  # of the shards 0, 1, 0, 2, 0
        reader(IDS[number])
    assert reads == [0, 1, 2]


def test_at_most_two_shards_stay_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Shard(dict[str, np.ndarray]):
        """A dict that can be referred to weakly."""

    shards: list[weakref.ref[Shard]] = []
    real = Store.read

    def read(self, part, **options):
        found = Shard(real(self, part, **options))
        shards.append(weakref.ref(found))
        return found

    monkeypatch.setattr(Store, "read", read)
    reader = MaskReader(store)
    for image_id in IDS:
        reader(image_id)
    assert [shard() is not None for shard in shards] == [False, False, False, True, True]


def test_threads_read_what_one_thread_reads(store: Store) -> None:
    reader = MaskReader(store)
    order = np.random.default_rng(0).permutation(IDS * 10).tolist()
    ready = threading.Barrier(4)

    def read(image_ids: list[str]) -> list[Candidates]:
        ready.wait()
        return [reader(image_id) for image_id in image_ids]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read, [order[start::4] for start in range(4)]))
    for start, own in enumerate(found):
        for image_id, got in zip(order[start::4], own, strict=True):
            assert_same(got, segmented(image_id))


def test_a_corrupt_shard_is_not_read(store: Store) -> None:
    victim = store.data / "masks" / "c" / "1" / "0" / "0" / "0"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    reader = MaskReader(store)
    reader(IDS[0])
    with pytest.raises(StoreError, match="Shard 1 of store store is corrupt"):
        reader(IDS[SHARD_ROWS])


SAM2_CHANGES = {
    "size": "tiny",
    "points_per_side": 9,
    "prompting": "grid",
    "min_score": 0.1,
    "min_stability": 0.1,
    "stability_offset": 2.0,
    "min_area": 0.1,
    "max_area": 0.5,
    "duplicate_iou": 0.5,
    "precision": "fp32",
}
THRESHOLD_CHANGES = {"smoothing": 1.0, "min_area": 0.1, "max_area": 0.5, "duplicate_iou": 0.5}


def key(config: MasksConfig, identity: ModelIdentity = IDENTITY) -> str:
    return recipe(config, identity).key


@pytest.mark.parametrize(
    ("kind", "changes"),
    [(Sam2Config, SAM2_CHANGES), (ThresholdConfig, THRESHOLD_CHANGES)],
    ids=["sam2", "threshold"],
)
def test_every_option_of_a_segmenter_is_in_the_key(
    kind: type[Sam2Config | ThresholdConfig], changes: dict[str, object]
) -> None:
    assert set(kind.model_fields) - {"name", "checkpoint", "revision"} == set(changes)
    configs = [kind(), *(kind(**{name: value}) for name, value in changes.items())]
    keys = {key(MasksConfig(segmenter=config)) for config in configs}
    assert len(keys) == len(configs)


@pytest.mark.parametrize("change", [{"checkpoint": "local.pt"}, {"revision": "main"}])
def test_where_the_weights_came_from_is_not_in_the_key(change: dict[str, str]) -> None:
    plain = MasksConfig(segmenter=Sam2Config())
    assert key(MasksConfig(segmenter=Sam2Config(**change))) == key(plain)
    assert key(plain, ModelIdentity("fake", "commit", {"weights": "abc"})) == key(plain)


def test_the_weights_the_segmenter_and_the_frame_are_in_the_key() -> None:
    keys = {
        key(CONFIG),
        key(CONFIG, ModelIdentity("fake", None, {"weights": "abd"})),
        key(CONFIG, ModelIdentity("other", None, {"weights": "abc"})),
        key(CONFIG.model_copy(update={"segmenter": Sam2Config()})),
        key(CONFIG.model_copy(update={"max_candidates": 5})),
        key(CONFIG.model_copy(update={"frame": 24})),
    }
    assert len(keys) == 6
    assert set(MasksConfig.model_fields) == {"segmenter", "max_candidates", "frame"}


def test_the_segmenters_own_batch_size_is_used_unless_one_is_named() -> None:
    segmenter = FakeSegmenter(batch_size=7)
    assert job(segmenter, CONFIG, picture, batch_size=None, workers=1).batch_size == 7
    assert job(segmenter, CONFIG, picture, batch_size=2, workers=1).batch_size == 2
