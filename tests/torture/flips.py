"""One bit of one file of a cache, or of an exported classifier, flipped, against its readers."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from medfocus_pipeline.classifier.pack import read_pack
from medfocus_pipeline.commands import audit
from medfocus_pipeline.config import EfficientNetLiteConfig
from medfocus_pipeline.datasets import manifest as manifests
from medfocus_pipeline.datasets.similarity import check_fingerprints, read_fingerprints
from medfocus_pipeline.encoders import find_weights
from medfocus_pipeline.errors import MedFocusError
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.gate import saved as gates
from medfocus_pipeline.project.agreement import AGREEMENT, read_agreement
from medfocus_pipeline.project.gate_table import SCORES
from medfocus_pipeline.project.settings import SETTINGS, check_settings, last_dataset, open_context
from medfocus_pipeline.sealed_tables import read_table
from medfocus_pipeline.stores.opening import describe, open_store
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.tuning import kept
from medfocus_pipeline.weights import FileHashes
from tests.torture.kills import verified
from tests.torture.trial import HARMLESS, REFUSED, SILENT, TRACEBACK, Counts

Reader = Callable[[], object]

_VERIFIED = 50
"""Of so many flips one is also looked for by ``cache verify``, which reads everything."""


@dataclass(frozen=True, slots=True)
class File:
    """One file, what reads it, and whether `verify` says when it was changed."""

    kind: str
    path: Path
    read: Reader
    verified: bool = True


def flips(root: Path, count: int, rng: np.random.Generator) -> Counts:
    """Flip bits, as many in each kind of file, batched by file.

    Args:
        root: of a finished ``cache`` and ``pack``; all is put back after each flip.
    """
    counts = Counts()
    kinds: dict[str, list[File]] = {}
    for file in files(root):
        kinds.setdefault(file.kind, []).append(file)
    each = -(-count // len(kinds))
    for found in kinds.values():
        for number, file in enumerate(found):
            share = each // len(found) + (number < each % len(found))
            _flip(file, share, root / "cache", rng, counts)
    return counts


def _flip(file: File, count: int, cache: Path, rng: np.random.Generator, counts: Counts) -> None:
    whole, answer = file.path.read_bytes(), file.read()
    assert file.read() == answer, f"{file.path} reads otherwise each time"
    for number, place in enumerate(_places(len(whole), count, rng)):
        changed = bytearray(whole)
        bit = int(rng.integers(8))
        changed[place] ^= 1 << bit
        file.path.write_bytes(changed)
        what = f"{file.kind}, byte {place} bit {bit} of {file.path}"
        try:
            outcome = HARMLESS if file.read() == answer else SILENT
        except MedFocusError:
            outcome = REFUSED
        except Exception as error:
            outcome, what = TRACEBACK, f"{what}: {error!r}"
        counts.note(outcome, what)
        if file.verified and number % _VERIFIED == 0 and outcome == REFUSED:
            with contextlib.redirect_stdout(io.StringIO()):
                if not verified(cache):
                    counts.note(SILENT, f"verify: {what}")
    file.path.write_bytes(whole)


def _places(size: int, count: int, rng: np.random.Generator) -> list[int]:
    """A third in the head, a third in the tail, where formats have their descriptions."""
    spans = [(0, min(64, size)), (max(0, size - 1024), size), (0, size)]
    return [int(rng.integers(*spans[number % 3])) for number in range(count)]


def files(root: Path) -> list[File]:
    """Every file that is read, of those that are there; equal answers are the same content."""
    cache, folder = root / "cache", root / "cache" / "shapes"
    memo, table = folder / "fingerprints.parquet", folder / "manifest.parquet"
    found = [
        File("manifest", table, lambda: manifests.read(table).table.to_pylist()),
        File("fingerprints", memo, lambda: (check_fingerprints(memo), read_fingerprints(memo))),
        File("audit pairs", folder / audit.PAIRS, lambda: audit.read_pairs(folder).to_pylist()),
        File("audit counts", folder / audit.COUNTS, lambda: audit.thresholds(folder)),
        File("settings", folder / SETTINGS, lambda: _settings(cache)),
        File("last", cache / "last.json", lambda: last_dataset(cache), verified=False),
        File("weights", cache / "weights.json", lambda: _known(cache), verified=False),
        File("pack", root / "pack" / "config.json", lambda: _pack(root), verified=False),
        File("pack's tensors", root / "pack" / "model.safetensors", lambda: _pack(root), False),
    ]
    for place in (folder, cache / "mine"):
        for name in results.FILES:
            path = place / "results" / f"{name}.parquet"
            found.append(File(name, path, partial(_table, path.parent, name)))
    gate = folder / "gate"
    found += [
        File("gate", gate / gates.DESCRIBED, lambda: _gate(gate)),
        File("gate's tensors", gate / gates.TENSORS, lambda: _gate(gate)),
        File("gate's scores", gate / SCORES, lambda: _scores(gate / SCORES)),
    ]
    for path in sorted(folder.glob(f"tuning/*/{kept.RUN}")):
        found += [
            File("tuned run", path, partial(_kept, path.parent)),
            File("tuned tensors", path.with_name(kept.TENSORS), partial(_kept, path.parent)),
        ]
    for described in sorted(folder.glob("*/*/store.json")):
        found += _store_files(open_store(described.parent))
    return [file for file in found if file.path.exists()]


def _store_files(store: Store) -> list[File]:
    described = store.path / "store.json"
    found = [File("store.json", described, lambda: describe(store.path))]
    agreement = store.path / AGREEMENT
    if agreement.exists():
        found.append(File("agreement", agreement, lambda: read_agreement(store)))
    segments = sorted((store.path / "index").glob("segment-*"))
    found += [File("segment", path, lambda: _index(store)) for path in segments]
    for part in store.index().parts.values():
        found.append(File("index part", store.part_path(part.shard), lambda: _index(store)))
        chunks = [store.path / name for name in part.files]
        found += [File("chunk", path, lambda: _shards(store)) for path in chunks]
    groups = sorted(store.data.rglob("zarr.json"))
    return found + [File("zarr.json", path, lambda: _shards(store)) for path in groups]


def _index(store: Store) -> object:
    """Rows of the index; damaged shards, which the next run computes again, are refused."""
    index = store.index()
    if index.damaged:
        raise MedFocusError(str(index.damaged))
    return {shard: part.table.to_pylist() for shard, part in index.parts.items()}


def _shards(store: Store) -> object:
    return {
        shard: {name: rows.tobytes() for name, rows in store.read(part).items()}
        for shard, part in store.index().parts.items()
    }


def _table(folder: Path, name: results.Kind) -> object:
    return results.read(folder, name).to_pylist()


def _gate(folder: Path) -> object:
    gate = gates.load_gate(folder)
    return gate.described, {
        name: one.tobytes() for name, one in gates.arrays_of(gate.fitted).items()
    }


def _scores(path: Path) -> object:
    return read_table(path, owner=SCORES).to_pylist()


def _kept(folder: Path) -> object:
    run, tensors = kept.read_kept(folder)
    return run, {name: one.tobytes() for name, one in tensors.items()}


def _settings(cache: Path) -> object:
    check_settings(cache / "shapes" / SETTINGS)  # a change is said, and used
    found = open_context("shapes", data=None, cache=cache, profile=None).settings
    return found.model_copy(update={"data": None, "card": None})  # a place is anyone's to change


def _known(cache: Path) -> object:
    """Hashes that are remembered, or made anew of files that say what they are."""
    hashes = FileHashes(cache / "weights.json")
    weights = find_weights(EfficientNetLiteConfig(), hashes, download=False)
    assert weights is not None
    return weights.identity


def _pack(root: Path) -> object:
    pack = read_pack(root / "pack")
    arrays = {name: array.tobytes() for name, array in pack.head.arrays.items()}
    return pack.config, arrays, pack.familiar.rows.tobytes()
