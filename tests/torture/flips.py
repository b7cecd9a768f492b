"""One bit of one file of a cache, flipped, against what reads the file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from medfocus_pipeline.datasets import manifest as manifests
from medfocus_pipeline.datasets.similarity import check_fingerprints, read_fingerprints
from medfocus_pipeline.errors import MedFocusError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.stores.store import Store, describe, open_store
from stages import audit
from stages.masks import AGREEMENT
from tests.torture.trial import SILENT, TRACEBACK, Counts

Reader = Callable[[], object]


def flips(cache: Path, count: int, rng: np.random.Generator) -> Counts:
    """Flip bits, as many in each kind of file.

    Args:
        cache: of one data set, finished; it is put back after each flip.
    """
    counts = Counts()
    kinds = readers(cache)
    answers = {path: read() for found in kinds.values() for path, read in found}
    for number in range(count):
        kind = list(kinds)[number % len(kinds)]
        path, read = kinds[kind][rng.integers(len(kinds[kind]))]
        whole = path.read_bytes()
        changed = bytearray(whole)
        bit = int(rng.integers(8 * len(whole)))
        changed[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(changed)
        try:
            counts.note(
                "no harm" if read() == answers[path] else SILENT, f"{kind}, bit {bit} of {path}"
            )
        except MedFocusError:
            counts.note("refused clearly", "")
        except Exception as error:
            counts.note(TRACEBACK, f"{kind}, bit {bit} of {path}: {error!r}")
        finally:
            path.write_bytes(whole)
    return counts


def readers(cache: Path) -> dict[str, list[tuple[Path, Reader]]]:
    """Kind of file -> every file of it, with what reads it: equal answers are the same content."""
    found: dict[str, list[tuple[Path, Reader]]] = {}

    def add(kind: str, path: Path, read: Reader) -> None:
        if path.is_file():
            found.setdefault(kind, []).append((path, read))

    add("manifest", cache / "manifest.parquet", lambda: manifests.read(cache / "manifest.parquet"))
    for name in results.FILES:
        path = cache / "results" / f"{name}.parquet"
        add(name, path, lambda name=name: results.read(cache / "results", name).to_pylist())
    memo = cache / "fingerprints.parquet"
    add("fingerprints", memo, lambda: (check_fingerprints(memo), read_fingerprints(memo)))
    add("audit pairs", cache / audit.PAIRS, lambda: audit.read_pairs(cache).to_pylist())
    add("audit counts", cache / audit.COUNTS, lambda: audit.thresholds(cache))
    for described in sorted(cache.glob("*/*/store.json")):
        store = open_store(described.parent)
        add("store.json", described, lambda store=store: describe(store.path))
        for path in sorted(store.path.rglob("*")):
            if path.name != AGREEMENT and path != described and "lock" not in path.name:
                kind = {"zarr.json": "zarr.json"}.get(path.name, path.suffix or "chunk")
                add(kind, path, lambda store=store: _contents(store))
    return found


def _contents(store: Store) -> object:
    """Rows of the store; damaged shards, which the next run computes again, are refused."""
    index = store.index()
    if index.damaged:
        raise MedFocusError(str(index.damaged))
    return {
        shard: (part.table.to_pylist(), {k: v.tobytes() for k, v in store.read(part).items()})
        for shard, part in index.parts.items()
    }
