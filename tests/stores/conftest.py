"""A tiny store whose rows are functions of their ids."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from medfocus_pipeline.stores.job import Block, Job
from medfocus_pipeline.stores.keys import Recipe
from medfocus_pipeline.stores.opening import ArraySpec, create
from medfocus_pipeline.stores.store import Store

SPECS = [
    ArraySpec("value", "float32", (3,), ("feature",)),
    ArraySpec("bits", "uint8", (2, 4), ("y", "x")),
]
SHARD_ROWS = 8


def recipe(**changes: object) -> Recipe:
    facts = {
        "stage": "masks",
        "version": 1,
        "config": {"a": 1},
        "model": {"id": "fake", "files": {}},
        "upstream": None,
    }
    return Recipe(**{**facts, **changes})


def row(image_id: str) -> np.ndarray:
    digest = hashlib.sha256(image_id.encode()).digest()
    return np.frombuffer(digest[:12], np.uint32).astype(np.float32)


def block(ids: Sequence[str]) -> Block:
    values = np.stack([row(id_) for id_ in ids])
    bits = np.zeros((len(ids), 2, 4), np.uint8)
    return Block(
        {"value": values, "bits": bits}, {"length": pa.array([len(id_) for id_ in ids], pa.int32())}
    )


def job(
    *,
    batch_size: int = 3,
    load: Callable[[str], str] = str,
    compute: Callable[[Sequence[str]], Block] = block,
    calls: int = 1,
) -> Job[str]:
    return Job(load, compute, batch_size, workers=2, calls=calls)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return create(tmp_path / "masks" / "fake-00000000", recipe(), SPECS, shard_rows=SHARD_ROWS)


def ids(count: int, start: int = 0) -> list[str]:
    return [f"image-{number:05d}" for number in range(start, start + count)]


def contents(store: Store) -> dict[str, list[float]]:
    """Id -> value of every row that the index lists."""
    found = {}
    for part in store.index().parts.values():
        values = store.read(part, names=["value"])["value"]
        found |= dict(zip(part.image_ids, values.tolist(), strict=True))
    return found


def expected(image_ids: Sequence[str]) -> dict[str, list[float]]:
    return {id_: row(id_).tolist() for id_ in image_ids}
