import hashlib
import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfocus_pipeline.config import EmbedConfig
from medfocus_pipeline.datasets import similarity
from medfocus_pipeline.datasets.similarity import (
    Block,
    Fingerprints,
    cosine_blocks,
    equal_blocks,
    fingerprints_of,
    groups,
    hamming_blocks,
    perceptual_hash,
    pixel_sha256,
    read_fingerprints,
    write_fingerprints,
)
from medfocus_pipeline.embedding import prepare
from medfocus_pipeline.types import Image
from tests.fakes import FakeEncoder, picture


def smooth(seed: int, *, size: tuple[int, int] = (120, 100)) -> Image:
    """A picture with structure at every scale."""
    rng = np.random.default_rng(seed)
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (7, 6), dtype=np.uint8))
    large = np.asarray(coarse.resize(size[::-1], PIL.Image.Resampling.BICUBIC), np.float64)
    grey = np.clip(large * 0.7 + rng.normal(20, 5, size), 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def jpeg(image: Image, quality: int) -> Image:
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(file))


def differing(one: int | None, other: int | None) -> int:
    assert one is not None
    assert other is not None
    return (one ^ other).bit_count()


def pairs(blocks: list[Block]) -> dict[tuple[int, int], float]:
    found = {}
    for first, second, distance in blocks:
        found |= zip(zip(first.tolist(), second.tolist(), strict=True), distance, strict=True)
    return found


def test_the_pixel_hash_is_that_of_the_embedding_stores() -> None:
    image = picture("one")
    stored = prepare(image, None, EmbedConfig(focus="original"), FakeEncoder()).pixel_sha256
    assert pixel_sha256(image) == stored
    assert pixel_sha256(image[:, ::-1]) != stored
    assert pixel_sha256(image.reshape(10, 12, 3)) != stored


@pytest.mark.parametrize("seed", range(4))
def test_a_copy_that_was_scaled_compressed_or_brightened_is_near(seed: int) -> None:
    image = smooth(seed)
    own = perceptual_hash(image)
    scaled = PIL.Image.fromarray(image).resize((50, 60), PIL.Image.Resampling.LANCZOS)
    for copy in (jpeg(image, 50), np.asarray(scaled), np.clip(image * 0.8 + 20, 0, 255)):
        assert differing(own, perceptual_hash(copy.astype(np.uint8))) <= 4


def test_other_pictures_are_far() -> None:
    hashes = [perceptual_hash(smooth(seed)) for seed in range(20)]
    least = min(differing(a, b) for n, a in enumerate(hashes) for b in hashes[:n])
    assert least > 8


@pytest.mark.parametrize("grey", [0, 130, 255])
def test_a_flat_picture_has_no_perceptual_hash(grey: int) -> None:
    image = np.full((40, 30, 3), grey, np.uint8)
    image[0, 0] = grey ^ 1
    found = fingerprints_of(image)
    assert found.perceptual is None
    assert found.pixel_sha256 == hashlib.sha256(b"(40, 30, 3)" + image.tobytes()).hexdigest()


def test_equal_values_are_grouped_and_paired_but_empty_ones_are_not() -> None:
    values = ["a", "", "b", "a", "", "c", "a", "b"]
    assert [group.tolist() for group in groups(values)] == [[0, 3, 6], [2, 7]]
    assert set(pairs([*equal_blocks(values)])) == {(0, 3), (0, 6), (3, 6), (2, 7)}
    assert [*equal_blocks([])] == []


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(0, 30), st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_blocks_find_the_pairs_of_the_whole_matrix(
    count: int, limit: int, cells: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    features = rng.normal(size=(count, 3)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "_BLOCK_CELLS", cells)
        near = pairs([*hamming_blocks(hashes, limit=limit)])
        alike = pairs([*cosine_blocks(features, limit=0.5)])
    above = [(a, b) for a in range(count) for b in range(a + 1, count)]
    bits = {(a, b): (int(hashes[a]) ^ int(hashes[b])).bit_count() for a, b in above}
    assert near == {pair: n for pair, n in bits.items() if n <= limit}
    cosines = {(a, b): float(features[a] @ features[b]) for a, b in above}
    assert set(alike) == {pair for pair, value in cosines.items() if value >= 0.5}
    assert all(abs(1 - cosines[pair] - found) < 1e-6 for pair, found in alike.items())


def test_fingerprints_are_remembered(tmp_path: Path) -> None:
    path = tmp_path / "new" / "fingerprints.parquet"
    assert read_fingerprints(path) == {}
    known = {"b": Fingerprints("p", 2**64 - 1), "a": Fingerprints("q", None)}
    write_fingerprints(path, known)
    assert read_fingerprints(path) == known


def test_damaged_fingerprints_or_those_of_another_version_are_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "fingerprints.parquet"
    path.write_bytes(b"PAR1 no more")
    assert read_fingerprints(path) == {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "_REMEMBERED", similarity._REMEMBERED.remove_metadata())
        write_fingerprints(path, {"a": Fingerprints("q", 1)})
    assert read_fingerprints(path) == {}
