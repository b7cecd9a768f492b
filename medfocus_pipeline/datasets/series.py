"""Files that follow one another by name and look alike: slices of patients whom nobody names."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.errors import counted

_FEWEST = 8
"""Files of a folder; fewer say nothing about their order."""

_SHARE = 0.5
"""Neighbours differ by at most this share of the bits by which others of the folder do."""


@dataclass(frozen=True, slots=True)
class Series:
    """Runs of neighbours that look alike.

    Attributes:
        near: median number of bits by which the hashes of neighbours differ.
        far: the same of files of one folder that are half of it apart.
        runs: paths of the files of each run, in order; two or more each.
    """

    near: float
    far: float
    runs: tuple[tuple[str, ...], ...]


def find_series(hashes: Mapping[str, int]) -> Series | None:
    """Whether files that follow one another look more alike than others, folder by folder.

    Args:
        hashes: path -> perceptual hash, of the files whose patient is not known; of copies one.

    Returns:
        None unless neighbours differ by at most half as many bits as others do.
    """
    folders = [names for names in _folders(list(hashes)) if len(names) >= _FEWEST]
    steps = [_bits(hashes, names, 1) for names in folders]
    if not folders:
        return None
    near = float(np.median(np.concatenate(steps)))
    jumps = [_bits(hashes, names, len(names) // 2) for names in folders]
    far = float(np.median(np.concatenate(jumps)))
    if near > _SHARE * far or far == 0:
        return None
    limit = (near + far) / 2
    runs = [
        run
        for names, step in zip(folders, steps, strict=True)
        for run in np.split(np.array(names, object), 1 + np.flatnonzero(step > limit))
        if len(run) > 1
    ]
    return Series(near, far, tuple(tuple(run) for run in runs))


def series_warning(series: Series | None) -> str:
    """Lines for whoever reads accuracies; empty where there is nothing to say."""
    if series is None:
        return ""
    first = max(series.runs, key=len)
    count = sum(map(len, series.runs))
    runs = counted(len(series.runs), "such run")
    return (
        f"files that follow one another by name look alike: {series.near:g} of 64 bits of their "
        f"hashes differ, {series.far:g} of others. {count:,} files are in {runs}, the longest "
        f"{first[0]!r} to {first[-1]!r}. If a run is one patient, say so: a column group in a CSV, "
        "or patient in the card (docs/own-data.md)"
    )


def _folders(paths: Sequence[str]) -> list[list[str]]:
    """Paths by folder, each in the order in which people number files."""
    found: dict[str, list[str]] = {}
    for path in sorted(paths, key=_natural):
        found.setdefault(str(PurePosixPath(path).parent), []).append(path)
    return list(found.values())


def _natural(path: str) -> list[tuple[int, int, str]]:
    """``a2`` before ``a10``."""
    return [
        (0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part)
        for part in re.split(r"([0-9]{1,18})", path)
    ]


def _bits(hashes: Mapping[str, int], names: Sequence[str], apart: int) -> NDArray[np.int64]:
    """How many bits differ between each file and the one so many places behind it."""
    values = np.array([hashes[name] for name in names], np.uint64)
    found: NDArray[np.int64] = np.bitwise_count(values[:-apart] ^ values[apart:]).astype(np.int64)
    return found
