"""Stage one, first half: candidate masks of every image, into and out of a store."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medfocus_pipeline.config import MasksConfig
from medfocus_pipeline.masks.candidates import pack, unpack
from medfocus_pipeline.segmenters import settled
from medfocus_pipeline.segmenters.protocol import Segmenter
from medfocus_pipeline.stores.job import Block, Job
from medfocus_pipeline.stores.keys import Recipe
from medfocus_pipeline.stores.opening import ArraySpec
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import Candidates, Image, ModelIdentity

STAGE = "masks"
VERSION = 3
SHARD_ROWS = 64

COLUMNS = {
    **dict.fromkeys(("score", "stability", "support", "contrast", "area"), pa.list_(pa.float32())),
    "boxes": pa.list_(pa.list_(pa.float32(), 4)),
}
"""Of the index, a list with an entry for each candidate."""

_SHARDS_IN_MEMORY = 2


def recipe(config: MasksConfig, identity: ModelIdentity) -> Recipe:
    """What a mask store of this configuration is made from."""
    config = config.model_copy(update={"segmenter": settled(config.segmenter)})
    described = config.model_dump(mode="json", exclude={"segmenter": {"checkpoint", "revision"}})
    return Recipe(STAGE, VERSION, described, identity.as_json(), upstream=None)


def array_specs(config: MasksConfig) -> list[ArraySpec]:
    """Arrays of a mask store; unused candidates are zero. What is known of each is in the index."""
    k, side = config.max_candidates, config.frame
    return [ArraySpec("masks", "uint8", (k, side, side // 8), ("candidate", "y", "x_byte"))]


def job(
    segmenter: Segmenter,
    config: MasksConfig,
    read: Callable[[str], Image],
    *,
    batch_size: int | None,
    workers: int,
    calls: int = 1,
) -> Job[Image]:
    """How to compute the rows of a mask store.

    Args:
        read: the image of an id; may raise `ImageError`.
        batch_size: images a call; None is the segmenter's own.
        workers: threads that read.
        calls: calls of the segmenter at a time.
    """

    def compute(images: Sequence[Image]) -> Block:
        return _block(segmenter.segment(images), images, config)

    return Job(read, compute, batch_size or segmenter.batch_size, workers, calls)


def _block(found: Sequence[Candidates], images: Sequence[Image], config: MasksConfig) -> Block:
    [spec] = array_specs(config)
    masks = np.zeros((len(found), *spec.shape), spec.dtype)
    for row, candidates in enumerate(found):
        masks[row, : len(candidates)] = pack(candidates.masks)
    columns = {
        "candidates": pa.array([len(candidates) for candidates in found], pa.int32()),
        **{
            name: pa.array([getattr(one, name).tolist() for one in found], kind)
            for name, kind in COLUMNS.items()
        },
        "width": pa.array([image.shape[1] for image in images], pa.int32()),
        "height": pa.array([image.shape[0] for image in images], pa.int32()),
    }
    return Block({spec.name: masks}, columns)


def candidates_at(
    arrays: Mapping[str, NDArray[Any]], columns: Mapping[str, pa.Array] | pa.Table, row: int
) -> Candidates:
    """The candidates of one row of a `Block` of `job`, or of a shard and its index part."""
    count = columns["candidates"][row].as_py()
    known = {name: np.array(columns[name][row].as_py(), np.float32) for name in COLUMNS}
    known["boxes"] = known["boxes"].reshape(count, 4)
    return Candidates(unpack(arrays["masks"][row, :count]), **known)


class MaskReader:
    """Candidates by image id, from a store; safe to call from several threads.

    Whole shards are read and checked; those used last stay in memory, so reading in the
    store's order reads each shard once.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parts = store.index().parts
        self._place = {
            id_: (shard, row)
            for shard, part in self._parts.items()
            for row, id_ in enumerate(part.image_ids)
        }
        self._shards: OrderedDict[int, dict[str, NDArray[Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, image_id: str) -> bool:
        """Whether the store has the image."""
        return image_id in self._place

    def size(self, image_id: str) -> tuple[int, int]:
        """(h, w) of an image, in pixels."""
        shard, row = self._place[image_id]
        table = self._parts[shard].table
        return table["height"][row].as_py(), table["width"][row].as_py()

    def __call__(self, image_id: str) -> Candidates:
        """The candidates of an image.

        Raises:
            StoreError: its shard is corrupt.
        """
        shard, row = self._place[image_id]
        return candidates_at(self._arrays(shard), self._parts[shard].table, row)

    def _arrays(self, shard: int) -> dict[str, NDArray[Any]]:
        with self._lock:
            if shard not in self._shards:
                self._shards[shard] = self._store.read(self._parts[shard])
                if len(self._shards) > _SHARDS_IN_MEMORY:
                    self._shards.popitem(last=False)
            self._shards.move_to_end(shard)
            return self._shards[shard]
