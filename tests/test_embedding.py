import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medfocus_pipeline import text_embedding
from medfocus_pipeline.augmentation import draw
from medfocus_pipeline.config import ClipConfig, EmbedConfig, TimmConfig
from medfocus_pipeline.datasets.similarity import pixel_sha256
from medfocus_pipeline.embedding import array_specs, encode, job, needs_masks, prepare, recipe
from medfocus_pipeline.encoders.fit import fitted
from medfocus_pipeline.encoders.protocol import Encoder, TextEncoder
from medfocus_pipeline.errors import ConfigError, ImageError, StoreError
from medfocus_pipeline.image_roi import Similarity, text_similarity
from medfocus_pipeline.masks.focus import focus, view
from medfocus_pipeline.masks.roi import choose_roi
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.stores.compute import fill
from medfocus_pipeline.stores.opening import create
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import Candidates, FloatArray, Image, ModelIdentity, Roi
from medfocus_pipeline.vectors import normalise
from tests.classifier.packs import DeepMeanEncoder
from tests.fakes import SIDE, FakeDualEncoder, FakeEncoder, FakeSegmenter, candidates, picture

IDENTITY = ModelIdentity("fake", None, {"weights": "abc"})
SEGMENTED = EmbedConfig(focus="segmented")
IDS = [f"image {number}" for number in range(11)]
LEFT = np.arange(16) < 8
"""Columns of the left half of the square frame."""


def segmented(image_id: str) -> Candidates:
    [found] = FakeSegmenter().segment([picture(image_id)])
    return found


def half(image_id: str) -> Candidates:
    return candidates(np.broadcast_to(LEFT, (1, 16, 16)), size=(SIDE, SIDE))


def square_picture(image_id: str) -> Image:
    """In the encoder's own frame, so that nothing is resized."""
    return picture(image_id, size=(SIDE, SIDE))


def fill_store(
    folder: Path,
    config: EmbedConfig,
    *,
    encoder: Encoder | None = None,
    read: Callable[[str], Image] = picture,
    found: Callable[[str], Candidates] | None = segmented,
    similarity: Similarity | None = None,
    ids: Sequence[str] = IDS,
) -> Store:
    encoder = encoder or FakeEncoder()
    made = recipe(config, IDENTITY, masks="masks", prompts=())
    store = create(folder / "store", made, array_specs(config, encoder), shard_rows=4)
    work = job(encoder, config, read, found, similarity=similarity, batch_size=None, workers=2)
    assert fill(store, ids, work).problems == {}
    return store


def rows(store: Store, name: str = "pooled") -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for part in store.index().parts.values():
        found |= zip(part.image_ids, store.read(part)[name], strict=True)
    return found


def column(store: Store, name: str) -> dict[str, object]:
    table = store.index().table()
    assert table is not None
    return dict(zip(table["image_id"].to_pylist(), table[name].to_pylist(), strict=True))


def encoded_directly(image: Image, roi: Roi, config: EmbedConfig) -> FloatArray:
    encoder = FakeEncoder()
    pictures = [view(focus(image, roi, config.focus), name) for name in config.views]
    return encoder.encode(np.stack([fitted(one, encoder, config.fit) for one in pictures])).pooled


@pytest.mark.parametrize("mode", ["original", "segmented", "overlay", "mask", "crop", "dimmed"])
def test_the_store_holds_what_the_encoder_says_of_each_view_in_order(
    tmp_path: Path, mode: str
) -> None:
    config = EmbedConfig(focus=mode, views=("hflip", "identity", "centre_crop"), roi="largest")
    found = segmented if needs_masks(config) else None
    stored = rows(fill_store(tmp_path, config, found=found))
    assert list(stored) == IDS
    for image_id, row in stored.items():
        roi = choose_roi(segmented(image_id), "largest", size=(12, 10))
        expected = encoded_directly(picture(image_id), roi, config)
        assert row.dtype == np.float16
        np.testing.assert_allclose(row, expected, rtol=1e-3, atol=1e-6)


def test_drawn_views_are_those_of_the_seed_and_the_images_pixels(tmp_path: Path) -> None:
    config = EmbedConfig(focus="original", views=("medical", "trivial_augment", "medical"))
    stored = rows(fill_store(tmp_path / "one", config, found=None))
    again = rows(fill_store(tmp_path / "two", config, found=None))
    other = config.model_copy(update={"augmentation_seed": 1})
    changed = rows(fill_store(tmp_path / "three", other, found=None))
    encoder = FakeEncoder()
    for image_id, row in stored.items():
        shown, digest = picture(image_id), pixel_sha256(picture(image_id))
        expected = [
            draw(name, generator("augmentation", 0, digest, name, number)).picture(
                fitted(shown, encoder, config.fit)
            )
            for name, number in (("medical", 0), ("trivial_augment", 0), ("medical", 1))
        ]
        wanted = encoder.encode(np.stack(expected)).pooled
        np.testing.assert_allclose(row, wanted, rtol=1e-3, atol=1e-6)
        np.testing.assert_array_equal(row, again[image_id])
        assert (row[0] != row[2]).any()
        assert (row != changed[image_id]).any()


def test_the_roi_moves_with_a_drawn_view() -> None:
    config = EmbedConfig(focus="segmented", views=("medical",) * 3)
    image, roi = square_picture(IDS[0]), choose_roi(half(IDS[0]), "best", size=(SIDE, SIDE))
    made = prepare(image, roi, config, FakeEncoder())
    assert made.covers is not None
    digest = pixel_sha256(image)
    for number, cover in enumerate(made.covers):
        change = draw("medical", generator("augmentation", 0, digest, "medical", number))
        np.testing.assert_array_equal(cover, change.cover(np.uint8(255) * roi.mask))
    assert made.seen == 1


def test_drawn_views_have_levels_of_their_own(tmp_path: Path) -> None:
    config = EmbedConfig(focus="original", views=("medical", "medical"))
    levels = rows(fill_store(tmp_path, config, encoder=DeepMeanEncoder(), found=None), "levels")
    assert {row.shape[0] for row in levels.values()} == {2}
    assert any((row[0] != row[1]).any() for row in levels.values())


def test_roi_pooled_weighs_the_tokens_by_the_roi_of_each_view(tmp_path: Path) -> None:
    config = EmbedConfig(focus="segmented", views=("identity", "hflip"))
    store = fill_store(tmp_path, config, read=square_picture, found=half)
    for image_id, row in rows(store, "roi_pooled").items():
        black = square_picture(image_id)
        black[:, SIDE // 2 :] = 0
        tokens = FakeEncoder().encode(np.stack([black, black[:, ::-1]])).tokens
        assert tokens is not None
        left, right = tokens[0, [0, 2]], tokens[1, [1, 3]]
        np.testing.assert_allclose(row, [left.mean(0), right.mean(0)], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("mode", ["segmented", "crop", "dimmed"])
def test_a_full_roi_makes_roi_pooled_the_mean_of_the_tokens(tmp_path: Path, mode: str) -> None:
    def full(image_id: str) -> Candidates:
        return candidates(np.ones((1, 16, 16), np.bool_))

    config = EmbedConfig(focus=mode)
    store = fill_store(tmp_path, config, found=full)
    encoder = FakeEncoder()
    for image_id, row in rows(store, "roi_pooled").items():
        views = [
            fitted(view(picture(image_id), name), encoder, config.fit) for name in config.views
        ]
        tokens = encoder.encode(np.stack(views)).tokens
        assert tokens is not None
        np.testing.assert_allclose(row, tokens.mean(axis=1), rtol=1e-3, atol=1e-6)


def test_only_a_token_grid_and_an_roi_make_roi_pooled(tmp_path: Path) -> None:
    def names(config: EmbedConfig, encoder: Encoder) -> list[str]:
        return [spec.name for spec in array_specs(config, encoder)]

    assert names(SEGMENTED, FakeEncoder()) == ["pooled", "roi_pooled"]
    assert names(SEGMENTED, FakeEncoder(token_grid=None)) == ["pooled"]
    assert names(EmbedConfig(focus="original"), FakeEncoder()) == ["pooled"]
    store = fill_store(tmp_path, SEGMENTED, encoder=FakeEncoder(token_grid=None))
    assert set(store.read(store.index().parts[0])) == {"pooled"}


def test_the_index_says_how_large_the_roi_is_and_where_it_is_the_whole_image(
    tmp_path: Path,
) -> None:
    def found(image_id: str) -> Candidates:
        empty = candidates(np.empty((0, 16, 16), np.bool_))
        return empty if image_id == "none" else half(image_id)

    ids = ["one", "none"]
    store = fill_store(tmp_path, SEGMENTED, read=square_picture, found=found, ids=ids)
    assert column(store, "fallback") == {"one": False, "none": True}
    assert column(store, "roi_area") == {"one": 0.5, "none": 1.0}
    expected = encoded_directly(
        square_picture("none"), Roi(np.ones((SIDE, SIDE), np.bool_), fallback=True), SEGMENTED
    )
    np.testing.assert_allclose(rows(store)["none"], expected, rtol=1e-3, atol=1e-6)


def test_the_original_has_no_fallback(tmp_path: Path) -> None:
    store = fill_store(tmp_path, EmbedConfig(focus="original"), found=None)
    assert set(column(store, "fallback").values()) == {False}


@given(
    image=st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
        lambda size: arrays(np.uint8, (*size, 3))
    )
)
def test_pixels_are_told_apart_by_value_and_shape_not_by_layout(image: np.ndarray) -> None:
    def pixels(picture: np.ndarray) -> str:
        return prepare(picture, None, EmbedConfig(focus="original"), FakeEncoder()).pixel_sha256

    assert pixels(image) == pixels(image.copy(order="F")) == pixels(image[:, ::-1][:, ::-1])
    changed = image.copy()
    changed[0, 0, 0] ^= 1
    assert pixels(changed) != pixels(image)
    h, w, _ = image.shape
    if h != w:
        assert pixels(image.reshape(w, h, 3)) != pixels(image)


def test_a_batch_and_its_rows_one_by_one_are_the_same() -> None:
    encoder = FakeEncoder()
    batch = [
        prepare(
            picture(name), choose_roi(segmented(name), "best", size=(12, 10)), SEGMENTED, encoder
        )
        for name in IDS
    ]
    together = encode(batch, encoder)
    for number, one in enumerate(batch):
        alone = encode([one], encoder)
        for name, array in together.arrays.items():
            np.testing.assert_allclose(array[number], alone.arrays[name][0], rtol=2e-3)
        for name, values in together.columns.items():
            assert values[number] == alone.columns[name][0]


def test_a_feature_too_large_for_the_store_is_refused_with_its_place(tmp_path: Path) -> None:
    class Loud(FakeEncoder):
        def encode(self, pictures):
            encoded = super().encode(pictures)
            return replace(encoded, pooled=encoded.pooled * 1e6)

    with pytest.raises(StoreError, match="pooled of shard 0 is not finite"):
        fill_store(tmp_path, SEGMENTED, encoder=Loud())


def test_an_unreadable_image_is_reported_and_skipped(tmp_path: Path) -> None:
    def read(image_id: str) -> Image:
        if image_id == IDS[3]:
            raise ImageError("is damaged")
        return picture(image_id)

    config = EmbedConfig(focus="original")
    made = recipe(config, IDENTITY, masks=None, prompts=())
    store = create(tmp_path / "s", made, array_specs(config, FakeEncoder()), shard_rows=4)
    work = job(FakeEncoder(), config, read, None, batch_size=2, workers=2)
    assert fill(store, IDS, work).problems == {IDS[3]: "is damaged"}
    assert list(rows(store)) == [image_id for image_id in IDS if image_id != IDS[3]]


@pytest.mark.parametrize(("views", "images"), [(1, 6), (3, 2), (8, 1)])
def test_the_encoders_batch_is_shared_by_the_views(views: int, images: int) -> None:
    config = EmbedConfig(views=("identity",) * views)
    work = job(FakeEncoder(batch_size=6), config, picture, None, batch_size=None, workers=1)
    assert work.batch_size == images


def test_a_named_batch_size_counts_images() -> None:
    work = job(FakeEncoder(), SEGMENTED, picture, segmented, batch_size=5, workers=1)
    assert work.batch_size == 5


# The key


def key(*, masks: str | None = "m", prompts: Sequence[str] = ("a", "b"), **changes: object) -> str:
    config = EmbedConfig(**{"focus": "segmented", **changes})
    return recipe(config, IDENTITY, masks=masks, prompts=prompts).key


CHANGES = {
    "encoder": TimmConfig(),
    "roi": "largest",
    "focus": "crop",
    "fit": "pad",
    "views": ("identity",),
}


def test_every_option_and_the_masks_are_in_the_key() -> None:
    # Whether `original` has parts of the region changes nothing for the focus modes that need it,
    # and the seed of augmentations nothing where there are none.
    assert set(CHANGES) == set(EmbedConfig.model_fields) - {"roi_parts", "augmentation_seed"}
    assert key(augmentation_seed=1) == key()
    assert key(roi_parts=True) == key()
    assert key(focus="original", roi_parts=True) != key(focus="original")
    keys = {key(), key(masks="n"), *(key(**{name: value}) for name, value in CHANGES.items())}
    keys |= {key(encoder=ClipConfig(precision="bf16")), key(views=("hflip", "identity"))}
    assert len(keys) == 9


def test_the_seed_and_number_of_drawn_views_are_in_their_key() -> None:
    drawn = ("medical", "medical")
    keys = {
        key(views=drawn),
        key(views=drawn, augmentation_seed=1),
        key(views=drawn[:1]),
        key(views=("trivial_augment", "medical")),
    }
    assert len(keys) == 4


def test_the_weights_are_in_the_key() -> None:
    other = ModelIdentity("fake", None, {"weights": "abd"})
    assert recipe(SEGMENTED, other, masks="m", prompts=()).key != key()


def test_where_the_weights_came_from_is_not_in_the_key() -> None:
    """The identity says which they are; a folder's path or a branch does not."""
    assert key(encoder=ClipConfig(model="local/folder", revision="main")) == key()
    checkpoint = TimmConfig(checkpoint=Path("local.safetensors"))
    assert key(encoder=checkpoint) == key(encoder=TimmConfig())
    commit = ModelIdentity("fake", "commit", {"weights": "abc"})
    assert recipe(SEGMENTED, commit, masks="m", prompts=()).key == key()


def test_the_original_depends_on_no_mask_roi_rule_or_prompt() -> None:
    original = key(focus="original")
    assert key(focus="original", masks="n") == original
    assert key(focus="original", masks=None) == original
    assert key(focus="original", roi="text", prompts=("c",)) == original
    assert key(focus="original", views=("identity",)) != original


def test_the_prompts_are_in_the_key_of_the_text_rule_alone() -> None:
    assert key(roi="text") != key(roi="text", prompts=("a", "c"))
    assert key(roi="text") != key(roi="text", prompts=("b", "a"))
    assert key(roi="best") == key(roi="best", prompts=("a", "c"))


# The ROI rule text


def colours(image_id: str) -> Image:
    """Red on the left, blue on the right."""
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, :8, 0], image[:, 8:, 2] = 200, 200
    return image


def halves(image_id: str) -> Candidates:
    return candidates(np.stack([np.tile(LEFT, (16, 1)), np.tile(~LEFT, (16, 1))]), size=(16, 16))


def texts(*prompts: str) -> FloatArray:
    return normalise(FakeDualEncoder().encode_text(prompts))


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [(("blue", "green"), [0, 1]), (("red",), [1, 0]), (("green", "red", "blue"), [1, 1])],
    ids=str,
)
def test_a_candidate_is_as_similar_as_the_class_it_fits_best(
    prompts: tuple[str, ...], expected: list[float]
) -> None:
    similarity = text_similarity(FakeDualEncoder(), texts(*prompts), fit="squeeze")
    found = similarity(colours(""), halves(""))
    assert found.shape == (2,)
    # The crop's margin takes a pixel of the other side in: a little less than 1, more than 0.
    np.testing.assert_allclose(found, expected, atol=0.15)


def test_the_text_rule_embeds_the_candidate_that_the_prompts_name(tmp_path: Path) -> None:
    config = EmbedConfig(focus="segmented", roi="text", views=("identity",))
    similarity = text_similarity(FakeDualEncoder(), texts("green", "blue"), fit="squeeze")
    store = fill_store(
        tmp_path,
        config,
        encoder=FakeDualEncoder(),
        read=colours,
        found=halves,
        similarity=similarity,
    )
    for row in rows(store).values():
        np.testing.assert_allclose(row[0], [0, 0, 100], atol=1)


def test_the_text_rule_falls_back_without_asking_the_encoder(tmp_path: Path) -> None:
    def never(image: Image, found: Candidates) -> FloatArray:
        raise AssertionError("there is nothing to compare")

    def none(image_id: str) -> Candidates:
        return candidates(np.empty((0, 16, 16), np.bool_))

    config = EmbedConfig(focus="segmented", roi="text")
    store = fill_store(tmp_path, config, found=none, similarity=never)
    assert set(column(store, "fallback").values()) == {True}


def test_the_text_rule_without_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use the encoder clip, or another ROI rule"):
        fill_store(tmp_path, EmbedConfig(focus="segmented", roi="text"))


def test_a_crop_without_any_feature_is_similar_to_nothing() -> None:
    similarity = text_similarity(FakeDualEncoder(), texts("red"), fit="squeeze")
    black = np.zeros((16, 16, 3), np.uint8)
    np.testing.assert_array_equal(similarity(black, halves("")), [0, 0])


def test_similarities_do_not_depend_on_the_threads_that_ask() -> None:
    similarity = text_similarity(FakeDualEncoder(), texts("red", "blue"), fit="squeeze")
    expected = [similarity(picture(name), segmented(name)) for name in IDS]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda name: similarity(picture(name), segmented(name)), IDS))
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))


# Texts


def test_a_text_store_holds_each_prompt_once_with_its_text_and_temperature(tmp_path: Path) -> None:
    encoder = FakeDualEncoder()
    assert isinstance(encoder, TextEncoder)
    prompts = ["a red scan", "a blue scan", "a red scan"]
    store = create(
        tmp_path / "t",
        text_embedding.recipe(IDENTITY),
        text_embedding.array_specs(encoder.dim),
        shard_rows=2,
    )
    ids = [text_embedding.text_id(prompt) for prompt in prompts]
    fill(store, ids, text_embedding.job(encoder, prompts))
    fill(store, [text_embedding.text_id("green")], text_embedding.job(encoder, ["green"]))
    stored = rows(store)
    assert set(stored) == {
        text_embedding.text_id(text) for text in ("a red scan", "a blue scan", "green")
    }
    for text in (*prompts, "green"):
        np.testing.assert_array_equal(
            stored[text_embedding.text_id(text)], encoder.encode_text([text])[0]
        )
        assert column(store, "text")[text_embedding.text_id(text)] == text
    assert column(store, "temperature") == pytest.approx(dict.fromkeys(stored, 0.01))


def test_the_key_of_a_text_store_is_the_models_alone() -> None:
    assert text_embedding.recipe(IDENTITY).key != text_embedding.recipe(ModelIdentity("other")).key
    assert re.fullmatch("[0-9a-f]{64}", text_embedding.text_id("a scan"))
