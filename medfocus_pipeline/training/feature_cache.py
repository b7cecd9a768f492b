"""Phantoms as the decoder's training sees them: features of the frozen trunk, and true masks.

The trunk never changes, so its features are computed once and mapped from disk afterwards.
"""

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.datasets.phantoms.painting import Phantom
from medfocus_pipeline.datasets.phantoms.phantom import PICTURES, draw
from medfocus_pipeline.errors import ConfigError, StoreError
from medfocus_pipeline.files import replacing
from medfocus_pipeline.masks.candidates import pack, unpack
from medfocus_pipeline.sam.sam_pixels import normalised
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import JSON

if TYPE_CHECKING:
    from torch import Tensor

MASK_SIDE = 128
"""Side of the stored masks, in pixels."""

_PARTS = 12
"""Masks kept of one phantom at most."""

_LEAST_PIXELS = 12
"""Of a mask of `MASK_SIDE`: what is smaller is not learned from."""

_CHUNK = 16
_TURNS = ("breast", "brain", PICTURES, "lungs", "breast", "covid", PICTURES)
"""Kinds of the phantoms one after the other; chest, brain, breast and pictures about alike."""

_EASIEST, _HARDEST = 0.1, 1.0

_SAMPLE = 2 * len(_TURNS)
"""Phantoms that tell whether all are still drawn as they were."""


@dataclass(frozen=True, slots=True)
class FeatureCache:
    """n phantoms in files, mapped into memory.

    Attributes:
        shapes: ``(h, w, c)`` of each feature map, fine to coarse.
        features: ``(n, sum of h * w * c) float16``, one map after the other.
        masks: ``(n, 12, 128, 16) uint8``, packed along x; the unused ones are zero.
        counts: ``(n,) uint8``, one more than the masks of each phantom; 0 where it is not drawn.
    """

    shapes: tuple[tuple[int, int, int], ...]
    features: NDArray[np.float16]
    masks: NDArray[np.uint8]
    counts: NDArray[np.uint8]

    def __len__(self) -> int:
        """Number of phantoms, drawn or not."""
        return len(self.counts)

    def levels(self, rows: NDArray[np.int64]) -> "list[Tensor]":
        """Feature maps of some phantoms, ``(b, c, h, w) float32``, fine to coarse."""
        import torch

        batch = torch.from_numpy(np.stack([self.features[row] for row in rows])).float()
        parts = torch.split(batch, [h * w * c for h, w, c in self.shapes], dim=1)
        return [
            part.view(len(rows), *shape).permute(0, 3, 1, 2)
            for part, shape in zip(parts, self.shapes, strict=True)
        ]

    def parts(self, row: int) -> NDArray[np.bool_]:
        """True masks of one phantom, ``(p, 128, 128) bool``; p is 0 where there is nothing."""
        return unpack(self.masks[row, : self.counts[row] - 1])


def describe(count: int, *, seed: int, size: int, trunk: str) -> JSON:
    """What a cache is made from, with a digest of the first phantoms as they are drawn now.

    Args:
        count: phantoms in it.
        seed: of the phantoms.
        size: side of their images, in pixels.
        trunk: SHA-256 of the trunk's weights.
    """
    return {
        "phantoms": count,
        "seed": seed,
        "size": size,
        "kinds": list(_TURNS),
        "drawings": _drawings(seed, size),
        "trunk": trunk,
    }


@functools.cache
def _drawings(seed: int, size: int) -> str:
    """Digest of the first phantoms: it changes when they are drawn otherwise."""
    digest = sha256()
    for row in range(_SAMPLE):
        drawn = phantom(row, seed=seed, size=size)
        digest.update(drawn.image.tobytes())
        digest.update(drawn.parts.tobytes())
    return digest.hexdigest()


def open_cache(folder: Path, trunk: Any, recipe: JSON) -> FeatureCache:
    """Maps the cache in `folder`, which is made if there is none.

    Args:
        folder: of its files.
        trunk: ``(n, 3, s, s)`` -> feature maps, for their shapes.
        recipe: from `describe`.

    Raises:
        ConfigError: there is a cache made from something else.
        StoreError: the disk has no room for it.
    """
    import torch

    note = folder / "recipe.json"
    known = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else recipe
    other = [name for name in {**known, **recipe} if known.get(name) != recipe.get(name)]
    if other:
        raise ConfigError(
            f"{folder} has the features of other phantoms ({', '.join(other)} changed); name "
            "another folder with --work, or delete this one."
        )
    with torch.inference_mode():
        maps = trunk(torch.zeros(1, 3, recipe["size"], recipe["size"]))
    shapes = tuple((m.shape[2], m.shape[3], m.shape[1]) for m in maps)
    length, count = sum(h * w * c for h, w, c in shapes), recipe["phantoms"]
    folder.mkdir(parents=True, exist_ok=True)
    _make_room(folder, count * (2 * length + _PARTS * MASK_SIDE * MASK_SIDE // 8))
    cache = FeatureCache(
        shapes,
        features=_mapped(folder / "features.f16", np.float16, (count, length)),
        masks=_mapped(folder / "masks.u8", np.uint8, (count, _PARTS, MASK_SIDE, MASK_SIDE // 8)),
        counts=_mapped(folder / "counts.u8", np.uint8, (count,)),
    )
    with replacing(note) as temporary:
        temporary.write_text(json.dumps(recipe, indent=1), encoding="utf-8")
    return cache


def fill(
    cache: FeatureCache,
    trunk: Any,
    recipe: JSON,
    *,
    share: tuple[int, int] = (0, 1),
    advance: Callable[[int], None],
) -> None:
    """Draws the phantoms that a cache lacks and computes their features.

    Args:
        cache: from `open_cache`.
        trunk: frozen, on the CPU.
        recipe: from `describe`.
        share: which part of how many this process does.
        advance: is told how many rows are there more.
    """
    import torch

    part, parts = share
    chunks = np.array_split(np.arange(len(cache)), -(-len(cache) // _CHUNK))
    for rows in chunks[part::parts]:
        left = rows[cache.counts[rows] == 0]
        phantoms = [phantom(int(row), seed=recipe["seed"], size=recipe["size"]) for row in left]
        if phantoms:
            pixels = normalised([each.image for each in phantoms], side=recipe["size"])
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                maps = trunk(pixels)
            flat = [level.permute(0, 2, 3, 1).flatten(1).float() for level in maps]
            cache.features[left] = torch.cat(flat, dim=1).half().numpy()
            for row, each in zip(left, phantoms, strict=True):
                masks = _learnable(each.parts)
                cache.masks[row, : len(masks)] = pack(masks)
                cache.counts[row] = len(masks) + 1
        advance(len(rows))


def phantom(row: int, *, seed: int, size: int) -> Phantom:
    """The phantom of a row: the kinds take turns, the difficulty is drawn."""
    kind = _TURNS[row % len(_TURNS)]
    difficulty = generator("difficulty", seed, row).uniform(_EASIEST, _HARDEST)
    return draw(kind, seed, row, size=size, difficulty=difficulty)


def _learnable(parts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The parts at `MASK_SIDE` that are large enough: ``(p, 128, 128) bool``."""
    step = parts.shape[-1] // MASK_SIDE
    shape = (len(parts), MASK_SIDE, step, MASK_SIDE, step)
    masks: NDArray[np.bool_] = parts.reshape(shape).mean(axis=(2, 4)) >= 0.5
    large = np.flatnonzero(masks.sum(axis=(1, 2)) >= _LEAST_PIXELS)
    return masks[large[:_PARTS]]


def _make_room(folder: Path, size: int) -> None:
    """Checks that the files fit: a full disk would end a process that writes into their maps."""
    there = sum(512 * path.stat().st_blocks for path in folder.iterdir())
    free = shutil.disk_usage(folder).free
    if there + free < size:
        raise StoreError(
            f"The features take {size / 1e9:,.1f} GB in {folder}, where {free / 1e9:,.1f} GB are "
            "free: free some space, name another folder with --work, or take fewer --phantoms."
        )


def _mapped(path: Path, dtype: type, shape: tuple[int, ...]) -> Any:
    return np.memmap(path, dtype, mode="r+" if path.is_file() else "w+", shape=shape)
