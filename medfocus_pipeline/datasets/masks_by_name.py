"""Annotation masks that lie among the images, known by their names."""

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medfocus_pipeline.columns import flags, found_at, id_array, kept
from medfocus_pipeline.datasets.names import without_ending, without_endings
from medfocus_pipeline.types import IntArray

_MASK = re.compile(
    r"(?P<image>.+?)[ _.-]+(?:masks?|seg|segmentation|gt|groundtruth|roi)(?:[ _-]?\d+)?$", re.I
)
_MASK_FOLDERS = frozenset(
    (
        *("mask", "masks", "seg", "segmentation", "segmentations", "annotation", "annotations"),
        *("groundtruth", "ground_truth", "labels", "labelstr", "labelsts"),
    )
)
MAY_BE_MASK = (
    r"(?i)[ _.-](mask|seg|gt|groundtruth|roi)[^/]*$|(^|/)(" + "|".join(sorted(_MASK_FOLDERS)) + ")/"
)
"""RE2 that finds all paths, and more, that `masks_of` may call masks."""

_AT_A_TIME = 1 << 16


def masks_of(paths: pa.StringArray) -> tuple[IntArray, IntArray]:
    """Annotation masks by their names.

    A mask is called like another image with ``_mask``, ``_mask_1``, ``_seg`` … behind its stem
    (BUSI), or like one below a folder beside ``masks`` (COVID-19 Radiography).

    Returns:
        Rows of the masks, ``(m,) int64`` ascending, and of the image that each belongs to.
    """
    rows = np.flatnonzero(flags(pc.match_substring_regex(paths, MAY_BE_MASK)))
    if not len(rows):
        return rows, rows
    stems = without_endings(paths)
    parts = [
        _images_of(kept(paths, some), stems)
        for some in np.split(rows, range(_AT_A_TIME, len(rows), _AT_A_TIME))
    ]
    images = np.concatenate(parts)
    masks = (images >= 0) & (images != rows)
    return rows[masks], images[masks]


def _images_of(masks: pa.StringArray, stems: pa.StringArray) -> IntArray:
    """The row of the image of each mask, -1 without one.

    Args:
        masks: paths.
        stems: of all images, without endings.
    """
    wanted = [(row, stem) for row, path in enumerate(masks.to_pylist()) for stem in _stems(path)]
    owners = np.array([row for row, _ in wanted], np.int64)
    places = found_at(id_array([stem for _, stem in wanted]), stems)
    images = np.full(len(masks), -1, np.int64)
    there = np.flatnonzero(places >= 0)[::-1]  # the first that is there counts
    images[owners[there]] = places[there]
    return images


def _stems(path: str) -> Iterator[str]:
    """What the image of a mask may be called, without its ending; the likeliest first."""
    *folders, name = without_ending(path).split("/")
    match = _MASK.match(name)
    if match:
        yield "/".join([*folders, match["image"]])
    names = [name, f"{name}_0000", *([match["image"]] if match else [])]
    for n, folder in enumerate(folders):
        if folder.casefold() in _MASK_FOLDERS:
            for instead in ((), ("images",), ("image",), ("imagesTr",), ("imagesTs",)):
                yield from (
                    "/".join([*folders[:n], *instead, *folders[n + 1 :], one]) for one in names
                )
