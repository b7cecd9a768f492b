import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medfocus_pipeline import embedding, text_embedding
from medfocus_pipeline.config import EmbedConfig
from medfocus_pipeline.datasets.manifest import Manifest, build
from medfocus_pipeline.datasets.manifest_columns import ROW
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.embedded import bytes_an_image, class_texts
from medfocus_pipeline.encoders.fit import fitted
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.features import FeatureKeys, FeatureTable, join
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.opening import ArraySpec, create
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import Candidates, Image, ModelIdentity
from medfocus_pipeline.vectors import normalise
from tests.fakes import FakeDualEncoder, FakeEncoder, FakeSegmenter, picture

IDENTITY = ModelIdentity("fake", None, {"weights": "abc"})
ORIGINAL = EmbedConfig(focus="original", views=("identity", "hflip"))
SEGMENTED = EmbedConfig(focus="segmented", views=("identity", "hflip"))
CLASSES = ("benign", "malignant")
KEYS = FeatureKeys("threshold", "best", ("original",), "fake", None, ("e",), None)

TRAIN = [f"train {number}" for number in range(8)]
TEST = [f"test {number}" for number in range(5)]


def make_manifest(image_ids: Sequence[str], *, unusable: Sequence[str] = ()) -> Manifest:
    """Rows in the order given, of alternating classes."""
    made = []
    for number, image_id in enumerate(image_ids):
        row = dict.fromkeys(ROW.names, 0) | dict.fromkeys(
            ("group", "domain", "patient", "mode", "split"), ""
        )
        row |= {"image_id": image_id, "path": f"{number:03d}.png", "class_index": number % 2}
        row |= {"class_name": CLASSES[number % 2]}
        row |= {"problem": "is damaged" if image_id in unusable else ""}
        made.append(list(row.values()))
    return build(made, name="fake", classes=CLASSES, from_card=False)


def make_split(manifest: Manifest) -> Split:
    usable = [(row, manifest.image_ids[row]) for row in manifest.usable]
    train = [row for row, image_id in usable if image_id.startswith("train")]
    test = [row for row, image_id in usable if not image_id.startswith("train")]
    return Split(np.array(train), np.array(test), official=True)


def fill_store(
    folder: Path,
    config: EmbedConfig,
    image_ids: Sequence[str],
    *,
    read: Callable[[str], Image] = picture,
    identity: ModelIdentity = IDENTITY,
    masks: str = "m" * 64,
    shuffle: int | None = None,
) -> Store:
    """Rows in another order than the manifest's, over several shards."""
    made = embedding.recipe(config, identity, masks=masks, prompts=())
    encoder = FakeEncoder()
    specs = embedding.array_specs(config, encoder)
    store = create(folder / made.folder(config.focus), made, specs, shard_rows=4)
    found = None
    if embedding.needs_masks(config):

        def found(image_id: str) -> Candidates:
            return FakeSegmenter().segment([read(image_id)])[0]

    job = embedding.job(encoder, config, read, found, batch_size=3, workers=2)
    order = list(image_ids)
    if shuffle is not None:
        np.random.default_rng(shuffle).shuffle(order)
    fill(store, order, job)
    return store


def table_of(stores: Sequence[Store], image_ids: Sequence[str] = (*TRAIN, *TEST)) -> FeatureTable:
    manifest = make_manifest(image_ids)
    keys = replace(KEYS, focus=("original", "segmented")[: len(stores)])
    return join(manifest, make_split(manifest), stores, text=None, keys=keys)


def encoded_directly(image_id: str) -> np.ndarray:
    """The whole image's embedding, L2-normalised."""
    encoder = FakeEncoder()
    return normalise(
        encoder.encode(fitted(picture(image_id), encoder, ORIGINAL.fit)[None]).pooled[0]
    )


def test_every_row_is_its_own_images_whatever_the_order_in_the_stores(tmp_path: Path) -> None:
    mixed = [*TRAIN[::2], *TEST, *TRAIN[1::2]]
    stores = [
        fill_store(tmp_path, ORIGINAL, mixed, shuffle=1),
        fill_store(tmp_path, SEGMENTED, mixed, shuffle=2),
    ]
    table = table_of(stores, mixed)
    assert list(table.image_ids) == mixed
    assert table.paths == tuple(f"{number:03d}.png" for number in range(len(mixed)))
    np.testing.assert_array_equal(table.labels, np.arange(len(mixed)) % 2)
    assert [table.image_ids[row] for row in table.train] == [*TRAIN[::2], *TRAIN[1::2]]
    assert [table.image_ids[row] for row in table.test] == TEST
    assert (table.dataset, table.classes) == ("fake", CLASSES)
    for row, image_id in enumerate(mixed):
        np.testing.assert_allclose(
            table.features[row, 0, :5], encoded_directly(image_id), atol=2e-3
        )
    ordered = [fill_store(tmp_path / "ordered", config, mixed) for config in (ORIGINAL, SEGMENTED)]
    np.testing.assert_array_equal(table.features, table_of(ordered, mixed).features)


def test_each_part_is_normalised_before_the_parts_are_joined(tmp_path: Path) -> None:
    stores = [fill_store(tmp_path, config, TRAIN + TEST) for config in (SEGMENTED, ORIGINAL)]
    joined = table_of(stores).features
    assert joined.shape == (13, 2, 10)
    assert joined.dtype == np.float32
    alone = [table_of([store]).features for store in stores]
    np.testing.assert_array_equal(joined, np.concatenate(alone, axis=2))
    assert bytes_an_image(stores, ("segmented", "original")) * 13 == joined.nbytes
    for part in alone:
        np.testing.assert_allclose(np.linalg.norm(part, axis=2), 1, atol=1e-6)


def test_reading_takes_little_beside_the_features(tmp_path: Path) -> None:
    """Under 1.5 times their size, which they have as read: 4,000 rows of 2,000 values."""
    made = embedding.recipe(ORIGINAL, IDENTITY, masks=None, prompts=())
    spec = ArraySpec("pooled", "float16", (2, 1000), ("view", "feature"))
    store = create(tmp_path / "store", made, [spec], shard_rows=500)
    ids = [f"train {number}" for number in range(4000)]
    store.reserve(8)
    rows = np.random.default_rng(0).random((500, 2, 1000)).astype(np.float16)
    for shard in range(8):
        names = ids[shard * 500 : (shard + 1) * 500]
        hashes = pa.array([f"{name} pixels" for name in names])
        store.write(shard, names[::-1], {"pooled": rows}, {"pixel_sha256": hashes})
    manifest = make_manifest(ids)
    split = Split(np.arange(3000), np.arange(3000, 4000), official=True)
    tracemalloc.start()
    table = join(manifest, split, [store], text=None, keys=KEYS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * table.features.nbytes
    np.testing.assert_array_equal(table.features[499], normalise(rows[0].astype(np.float32)))


def test_a_tables_order_of_rows_is_the_manifests_not_the_splits(tmp_path: Path) -> None:
    store = fill_store(tmp_path, ORIGINAL, TRAIN + TEST)
    manifest = make_manifest(TRAIN + TEST)
    split = Split(np.arange(8)[::-1], np.array([12, 8, 10]), official=True)
    table = join(manifest, split, [store], text=None, keys=KEYS)
    assert list(table.image_ids) == [*TRAIN, TEST[0], TEST[2], TEST[4]]
    assert table.test.tolist() == [8, 9, 10]


def test_rows_that_are_in_no_split_are_left_out(tmp_path: Path) -> None:
    usable = [image_id for image_id in TRAIN + TEST if image_id != "train 3"]
    store = fill_store(tmp_path, ORIGINAL, usable)
    manifest = make_manifest(TRAIN + TEST, unusable=["train 3"])
    table = join(manifest, make_split(manifest), [store], text=None, keys=KEYS)
    assert list(table.image_ids) == usable
    assert table.labels.tolist() == [0, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_a_test_image_whose_bytes_or_pixels_are_in_training_is_not_clean(tmp_path: Path) -> None:
    """`train 2` is also a test image; `copy` is `train 5` in another file."""

    def read(image_id: str) -> Image:
        return picture("train 5" if image_id == "copy" else image_id)

    image_ids = [*TRAIN, *TEST, "train 2", "copy"]
    store = fill_store(tmp_path, ORIGINAL, image_ids, read=read)
    split = Split(np.arange(8), np.arange(8, 15), official=True)
    table = join(make_manifest(image_ids), split, [store], text=None, keys=KEYS)
    assert table.clean.tolist() == [True] * 5 + [False, False]
    assert table.clean.dtype == np.bool_
    np.testing.assert_array_equal(table.features[13], table.features[2])


def test_two_test_images_alike_are_clean(tmp_path: Path) -> None:
    def read(image_id: str) -> Image:
        return picture("test") if image_id.startswith("test") else picture(image_id)

    store = fill_store(tmp_path, ORIGINAL, TRAIN + TEST, read=read)
    assert table_of([store]).clean.all()


def test_missing_rows_are_counted_and_refused(tmp_path: Path) -> None:
    whole = fill_store(tmp_path, ORIGINAL, TRAIN + TEST)
    short = fill_store(tmp_path, SEGMENTED, [*TRAIN, TEST[0]])
    with pytest.raises(
        StoreError, match=r"store segmented-\w{8} lacks 4 of 13 images\. Run: make embed"
    ):
        table_of([whole, short])


def test_an_empty_store_lacks_every_image(tmp_path: Path) -> None:
    store = fill_store(tmp_path, ORIGINAL, [])
    with pytest.raises(StoreError, match=r"lacks 13 of 13 images\. Run: make embed"):
        table_of([store])


@pytest.mark.parametrize(
    ("config", "identity"),
    [
        (SEGMENTED, ModelIdentity("fake", None, {"weights": "other"})),
        (SEGMENTED.model_copy(update={"views": ("hflip", "identity")}), IDENTITY),
    ],
    ids=["weights", "views"],
)
def test_stores_of_different_encoders_or_views_are_refused(
    tmp_path: Path, config: EmbedConfig, identity: ModelIdentity
) -> None:
    one = fill_store(tmp_path, ORIGINAL, TRAIN + TEST)
    other = fill_store(tmp_path, config, TRAIN + TEST, identity=identity)
    with pytest.raises(
        StoreError,
        match=r"original-\w{8} and segmented-\w{8} are of different encoders or views\. Run make",
    ):
        table_of([one, other])


def test_stores_of_different_masks_are_refused(tmp_path: Path) -> None:
    one = fill_store(tmp_path, SEGMENTED, TRAIN + TEST, masks="a" * 64)
    crop = SEGMENTED.model_copy(update={"focus": "crop"})
    other = fill_store(tmp_path, crop, TRAIN + TEST, masks="b" * 64)
    with pytest.raises(
        StoreError,
        match=r"different masks: segmented-\w{8} from masks a{8}, crop-\w{8} from masks b{8}\. "
        "Run: make embed",
    ):
        table_of([one, other])


def test_the_original_goes_with_any_masks(tmp_path: Path) -> None:
    original = fill_store(tmp_path, ORIGINAL, TRAIN + TEST)
    segmented = fill_store(tmp_path, SEGMENTED, TRAIN + TEST)
    assert table_of([original, segmented]).features.shape == (13, 2, 10)
    assert table_of([segmented, original]).features.shape == (13, 2, 10)


def test_a_corrupt_shard_is_refused(tmp_path: Path) -> None:
    store = fill_store(tmp_path, ORIGINAL, TRAIN + TEST)
    victim = store.data / "pooled" / "c" / "1" / "0" / "0"
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(bytes(data))
    with pytest.raises(StoreError, match=r"Shard 1 of store original-\w{8} is corrupt"):
        table_of([store])


# Class texts


PROMPTS = (("red scan", "a scan of red and blue"), ("green scan",))


@pytest.fixture
def texts(tmp_path: Path) -> Store:
    prompts = [text for one in PROMPTS for text in one]
    store = create(
        tmp_path / "texts",
        text_embedding.recipe(IDENTITY),
        text_embedding.array_specs(3),
        shard_rows=2,
    )
    ids = [text_embedding.text_id(text) for text in prompts]
    fill(store, ids, text_embedding.job(FakeDualEncoder(), prompts))
    return store


def test_a_class_text_is_the_normalised_mean_of_its_normalised_prompts(texts: Store) -> None:
    found = class_texts(texts, PROMPTS)
    assert found.dtype == np.float32
    half = np.sqrt(0.5)
    first = np.array([1 + half, 0, half])  # the longer prompt weighs no more
    expected = [first / np.linalg.norm(first), [0, 1, 0]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(class_texts(texts, PROMPTS[::-1]), found[::-1])


def test_a_prompt_that_was_not_embedded_is_refused(texts: Store) -> None:
    with pytest.raises(
        StoreError, match=r"texts lacks some of the class prompts\. Run: make embed"
    ):
        class_texts(texts, [*PROMPTS, ["another"]])


@given(arrays(np.float32, (4, 3), elements=st.floats(-1e6, 1e6, width=32)))
def test_normalised_rows_have_length_one_and_zeros_stay(rows: np.ndarray) -> None:
    rows[np.abs(rows) < 1e-6] = 0
    unit = normalise(rows)
    assert unit.dtype == np.float32
    lengths = np.linalg.norm(unit, axis=1)
    np.testing.assert_allclose(lengths, rows.any(axis=1), atol=1e-5)
    np.testing.assert_allclose(
        unit * np.linalg.norm(rows, axis=1, keepdims=True), rows, rtol=1e-4, atol=1e-6
    )


def test_patients_and_equal_pixels_are_groups_of_the_table(tmp_path: Path) -> None:
    ids = (*TRAIN, *TEST)

    def read(image_id: str) -> Image:
        return picture("train 0" if image_id == "train 5" else image_id)

    table = make_manifest(ids).table
    patients = ["anna" if image_id in ("train 1", "train 5") else "" for image_id in ids]
    index = table.schema.get_field_index("group")
    manifest = Manifest(table.set_column(index, table.schema.field(index), [patients]))
    store = fill_store(tmp_path, ORIGINAL, ids, read=read)
    joined = join(manifest, make_split(manifest), [store], text=None, keys=KEYS)
    assert joined.groups is not None
    # 1 and 5 are of one patient, 5 and 0 of equal pixels: all three belong together.
    assert len({joined.groups[ids.index(name)] for name in ("train 0", "train 1", "train 5")}) == 1
    assert len(set(joined.groups.tolist())) == len(ids) - 2
