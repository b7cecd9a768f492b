"""Zarr's chunks as bytes: encoded before they are written, decoded after they were checked.

Zarr works on memory here, so that what is written is whole, what is hashed is what is decoded, and
disks and object stores are written to in one way.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.types import JSON

if TYPE_CHECKING:
    import zarr

_DESCRIBED = "zarr.json"


def encode(described: JSON, shard: int, rows: NDArray[Any]) -> tuple[str, bytes]:
    """The chunk of one shard.

    Args:
        described: ``zarr.json`` of the array, which ends with this shard.
        rows: the first of the shard's; the rest is zero.

    Returns:
        Its name in the array's folder, and its bytes.
    """
    array, files = _array(described, {})
    # Chunks of zeros must exist too: their files are what says that they are whole.
    array = array.with_config({"write_empty_chunks": True})
    block = np.zeros(array.chunks, array.dtype)
    block[: len(rows)] = rows
    array[shard * len(block) :] = block
    name = array.metadata.encode_chunk_key((shard, *([0] * (array.ndim - 1))))
    return name, files[name].to_bytes()


def decode(described: JSON, chunks: Mapping[str, bytes], rows: slice) -> NDArray[Any]:
    """Rows of an array, of which these chunks are there.

    Args:
        described: ``zarr.json`` of an array that has these rows.
        chunks: name in the array's folder -> bytes.

    Raises:
        RuntimeError, ValueError, TypeError: the bytes are no chunk of this array.
    """
    array, _ = _array(described, chunks)
    return np.asarray(array[rows])


def _array(
    described: JSON, chunks: Mapping[str, bytes]
) -> tuple["zarr.Array[Any]", dict[str, Any]]:
    """An array in memory, and its files."""
    import zarr
    from zarr.buffer.cpu import Buffer
    from zarr.storage import MemoryStore

    content = {_DESCRIBED: json.dumps(described).encode(), **chunks}
    files: dict[str, Any] = {name: Buffer.from_bytes(one) for name, one in content.items()}
    return zarr.open_array(MemoryStore(files), mode="r+"), files
