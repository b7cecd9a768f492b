"""Pairs of files that show the same picture, or nearly: counted, and listed by importance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.similarity import Block, Fingerprints, hamming_blocks
from medfocus_pipeline.datasets.splits import Split
from medfocus_pipeline.types import IntArray

Kind: TypeAlias = Literal["bytes", "pixels", "perceptual", "embedding"]

MAX_PAIRS = 100_000
"""Pairs of a kind that are listed; all of them are counted. Those that matter most come first."""

_Pairs: TypeAlias = tuple[IntArray, IntArray, NDArray[np.float64], IntArray]
"""First and second file, distance, and rank: 0 (across splits and labels) to 3 (neither)."""

_NO_ROWS = np.empty(0, np.int64)
_NONE: _Pairs = (_NO_ROWS, _NO_ROWS, np.empty(0), _NO_ROWS)


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """The n usable files of a manifest, and what they are compared by.

    Attributes:
        rows: ``(n,) int64``, of the manifest.
        sides: ``(n,) str``, ``train``, ``test`` or empty.
        labels: ``(n,) int64``, class index.
        ids: SHA-256 of the bytes.
        pixels: SHA-256 of the pixels; that of the bytes for a file that was not decoded.
        hashes: None for a file that was not decoded.
    """

    rows: IntArray
    sides: NDArray[np.str_]
    labels: IntArray
    ids: list[str]
    pixels: list[str]
    hashes: list[Fingerprints | None]

    @property
    def trained_on(self) -> NDArray[np.bool_]:
        """Of which files the bytes or pixels are among those that train, ``(n,) bool``."""
        training = np.flatnonzero(self.sides == "train")
        known = {key[n] for n in training for key in (self.ids, self.pixels)}
        pairs = zip(self.ids, self.pixels, strict=True)
        return np.array([one in known or other in known for one, other in pairs], np.bool_)

    @property
    def perceptual(self) -> tuple[IntArray, NDArray[np.uint64]]:
        """Which files have a perceptual hash, ``(m,) int64``, and the hashes."""
        hashes = [one.perceptual if one else None for one in self.hashes]
        rows = np.array([n for n, one in enumerate(hashes) if one is not None], np.int64)
        return rows, np.array([hashes[n] for n in rows], np.uint64)


def list_files(
    manifest: Manifest, split: Split | str, fingerprints: Mapping[str, Fingerprints]
) -> Files:
    """Join manifest, split (or why there is none) and fingerprints by image id."""
    rows = manifest.usable
    sides = np.full(len(rows), "", dtype="<U5")
    if not isinstance(split, str):
        sides[np.isin(rows, split.train)] = "train"
        sides[np.isin(rows, split.test)] = "test"
    every = manifest.image_ids
    ids = [every[row] for row in rows]
    hashes = [fingerprints.get(image_id) for image_id in ids]
    # What was not decoded is at least equal to itself, so that no file is near its own copy.
    pixels = [one.pixel_sha256 if one else own for one, own in zip(hashes, ids, strict=True)]
    return Files(rows, sides, manifest.labels[rows], ids, pixels, hashes)


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """The pairs of one kind.

    Attributes:
        compared: files that could be compared this way.
        pairs: number of pairs, listed or not.
        across_splits: of these, with one side in training and one in the test set.
        across_labels: of these, with two labels.
        test_images: test files that have such a twin among the training files.
        listed: manifest rows and distances of the first `MAX_PAIRS`: across splits and labels,
            across splits, across labels, others; the nearest first.
    """

    kind: Kind
    compared: int
    pairs: int
    across_splits: int
    across_labels: int
    test_images: int
    listed: Block


def collect(
    kind: Kind,
    files: Files,
    compared: IntArray,
    blocks: Iterable[Block],
    *,
    known: Sequence[str] | None = None,
) -> Finding:
    """Count the pairs of a kind and list the first ones.

    Args:
        compared: ``(m,) int64``, the files that the positions in `blocks` are of.
        known: value of each file; a pair of equal values is of a stricter kind.
    """
    codes = None if known is None else np.unique(known, return_inverse=True)[1]
    leaked = np.zeros(len(files.rows), dtype=np.bool_)
    counts = np.zeros(3, dtype=np.int64)
    pending, held = [_NONE], 0
    for one, other, distance in blocks:
        first, second = compared[one], compared[other]
        if codes is not None:
            new = codes[first] != codes[second]
            first, second, distance = first[new], second[new], distance[new]
        across, mixed = _across(files, first, second)
        counts += len(first), int(across.sum()), int(mixed.sum())
        tested = np.where(files.sides[first] == "test", first, second)
        leaked[tested[across]] = True
        pending.append((first, second, distance, 3 - 2 * across - mixed))
        held += len(first)
        if held > MAX_PAIRS:
            pending, held = [_most_important(pending)], 0
    first, second, distance, _ = _most_important(pending)
    return Finding(
        kind=kind,
        compared=len(compared),
        pairs=int(counts[0]),
        across_splits=int(counts[1]),
        across_labels=int(counts[2]),
        test_images=int(leaked.sum()),
        listed=(files.rows[first], files.rows[second], distance),
    )


def seen_elsewhere(files: Files, domains: IntArray, *, distance: int) -> NDArray[np.bool_]:
    """Which test files show what somebody trains on, ``(n,) bool``.

    By bytes or pixels whatever the domain; nearly, by the perceptual hash, in another domain: two
    collections keep one picture in different sizes and qualities.

    Args:
        files: of all domains.
        domains: ``(n,) int64``, of each file.
        distance: greatest number of bits by which the hashes differ.
    """
    training, testing = files.sides == "train", files.sides == "test"
    seen = files.trained_on
    rows, values = files.perceptual
    for one, other, _ in hamming_blocks(values, limit=distance) if len(rows) else ():
        first, second = rows[one], rows[other]
        apart = domains[first] != domains[second]
        for own, twin in ((first[apart], second[apart]), (second[apart], first[apart])):
            seen[own[training[twin]]] = True
    found: NDArray[np.bool_] = seen & testing
    return found


def _across(
    files: Files, first: IntArray, second: IntArray
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether a pair lies across the split, and whether it has two labels."""
    one, other = files.sides[first], files.sides[second]
    across = (one != other) & (one != "") & (other != "")
    return across, files.labels[first] != files.labels[second]


def _most_important(parts: Sequence[_Pairs]) -> _Pairs:
    """The first `MAX_PAIRS` of some pairs, by importance and distance."""
    first, second, distance, rank = (
        np.concatenate([part[column] for part in parts]) for column in range(4)
    )
    order = np.lexsort((second, first, distance, rank))[:MAX_PAIRS]
    return first[order], second[order], distance[order], rank[order]
