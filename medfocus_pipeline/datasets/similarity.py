"""When are two pictures the same, or nearly? Fingerprints, and pairs found block by block."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medfocus_pipeline.errors import DamagedError
from medfocus_pipeline.files import disk_errors
from medfocus_pipeline.sealed_tables import read_table, write_table
from medfocus_pipeline.types import FloatArray, Image, IntArray

HASH_BITS = 64
"""Of a perceptual hash."""

_SIDE, _KEPT = 32, 8
_FLAT = 1.0
"""Standard deviation, in grey levels, below which a picture has nothing to be known by."""

_BLOCK_CELLS = 4_000_000
"""Pairs that are compared at once: tens of megabytes, however many images there are."""

_REMEMBERED = pa.schema(
    [("image_id", pa.string()), ("pixel_sha256", pa.string()), ("perceptual", pa.uint64())],
    metadata={b"medfocus.fingerprint_version": b"1"},
)

Block = tuple[IntArray, IntArray, NDArray[np.float64]]
"""Pairs ``first[m] < second[m]`` (positions) and their distances."""


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """What a picture is known by, whatever its file looks like.

    Attributes:
        pixel_sha256: see `pixel_sha256`.
        perceptual: see `perceptual_hash`; None for a picture without detail, or one that was
            not decoded.
    """

    pixel_sha256: str
    perceptual: int | None


def fingerprints_of(image: Image) -> Fingerprints:
    """Both hashes of a picture."""
    return Fingerprints(pixel_sha256(image), perceptual_hash(image))


def pixel_sha256(image: Image) -> str:
    """SHA-256 of a picture's shape and pixels: the ``pixel_sha256`` of embedding stores.

    Args:
        image: ``(h, w, 3) uint8``.

    Returns:
        64 hexadecimal digits.
    """
    total = hashlib.sha256(f"{image.shape}".encode())
    total.update(np.ascontiguousarray(image).data)
    return total.hexdigest()


def perceptual_hash(image: Image) -> int | None:
    """64 bits that hardly change when a picture is scaled, compressed or brightened.

    The DCT hash of Zauner, "Implementation and Benchmarking of Perceptual Image Hash
    Functions", 2010, section 3.2.1: grey, 32 x 32, two-dimensional DCT-II, the 8 x 8
    coefficients after the first row and column, one bit each: above their median. (The picture
    is shrunk by area means in one step, in place of a mean filter and a subsampling.)

    Args:
        image: ``(h, w, 3) uint8``.

    Returns:
        None for a picture whose 32 x 32 version is flat, such as a black one: its bits would
        be noise.
    """
    import PIL.Image
    from scipy.fft import dctn

    picture = PIL.Image.fromarray(image).convert("L")
    small = picture.resize((_SIDE, _SIDE), PIL.Image.Resampling.BOX)
    grey = np.asarray(small, dtype=np.float64)
    if grey.std() < _FLAT:
        return None
    waves = dctn(grey, norm="ortho")[1 : _KEPT + 1, 1 : _KEPT + 1]
    bits = np.packbits(waves > np.median(waves))
    return int.from_bytes(bits.tobytes(), "big")


def equal_blocks(values: Sequence[str]) -> Iterator[Block]:
    """Every pair of equal values, at distance 0.

    Args:
        values: n hashes; an empty one equals nothing.
    """
    for members in groups(values):
        for n in range(len(members) - 1):
            second = members[n + 1 :]
            yield np.full_like(second, members[n]), second, np.zeros(len(second))


def groups(values: Sequence[str]) -> list[IntArray]:
    """Positions of equal values, for every value that is there twice or more; '' never is.

    Returns:
        ``(g,) int64`` each, ascending, in the order of their first positions.
    """
    found: dict[str, list[int]] = {}
    for position, value in enumerate(values):
        if value:
            found.setdefault(value, []).append(position)
    return [np.array(members) for members in found.values() if len(members) > 1]


def hamming_blocks(hashes: NDArray[np.uint64], *, limit: int) -> Iterator[Block]:
    """Every pair of hashes of which at most `limit` bits differ; one block a piece of rows.

    Args:
        hashes: ``(n,) uint64``.

    Yields:
        Pairs with the number of bits that differ. There is a block for every piece, also
        without pairs, so that a caller sees that it goes on.
    """
    for start, stop in _pieces(len(hashes)):
        bits = np.bitwise_count(hashes[start:stop, None] ^ hashes[None, start:])
        yield _upper(bits <= limit, bits, start)


def cosine_blocks(features: FloatArray, *, limit: float) -> Iterator[Block]:
    """Every pair of features whose cosine is at least `limit`; one block a piece of rows.

    Args:
        features: ``(n, d) float32``, L2-normalised.

    Yields:
        Pairs with 1 - cosine; as `hamming_blocks`.
    """
    for start, stop in _pieces(len(features)):
        cosines = features[start:stop] @ features[start:].T
        yield _upper(cosines >= limit, 1 - cosines, start)


def _pieces(n: int) -> Iterator[tuple[int, int]]:
    rows = max(1, _BLOCK_CELLS // max(n, 1))
    for start in range(0, n, rows):
        yield start, min(start + rows, n)


def _upper(near: NDArray[np.bool_], distances: NDArray[np.generic], start: int) -> Block:
    """The pairs above the diagonal of a block whose first row and column are `start`."""
    rows, columns = np.nonzero(np.triu(near, 1))
    found = distances[rows, columns].astype(np.float64)
    return rows + start, columns + start, np.maximum(found, 0)


_OWNER = "fingerprints"


def check_fingerprints(path: Path) -> None:
    """Read the fingerprints of earlier runs, as far as their seal.

    Raises:
        DamagedError: they were changed.
        AccessError: they cannot be read now.
    """
    read_table(path, owner=_OWNER)


def read_fingerprints(path: Path) -> dict[str, Fingerprints]:
    """Image id -> fingerprint, of earlier runs; empty if there are none or they are damaged.

    Raises:
        AccessError: they cannot be read now.
    """
    try:
        table = read_table(path, owner=_OWNER)
    except DamagedError:
        return {}
    if not table.schema.equals(_REMEMBERED, check_metadata=True):
        return {}  # of another version of the hash
    return {
        image_id: Fingerprints(pixels, perceptual)
        for image_id, pixels, perceptual in zip(
            *(column.to_pylist() for column in table.columns), strict=True
        )
    }


def write_fingerprints(path: Path, fingerprints: Mapping[str, Fingerprints]) -> None:
    """Keep fingerprints, so that no picture is decoded twice for them.

    Raises:
        StoreError: the disk is full or read-only.
    """
    ids = sorted(fingerprints)
    hashes = [fingerprints[image_id] for image_id in ids]
    columns = [ids, [one.pixel_sha256 for one in hashes], [one.perceptual for one in hashes]]
    with disk_errors(path.parent):
        write_table(path, pa.table(columns, schema=_REMEMBERED), owner=_OWNER)
