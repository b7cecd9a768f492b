"""What a scan of a folder depends on, as one digest: of equal ones the manifests are equal."""

import hashlib
from collections.abc import Iterable

import pyarrow as pa

from medfocus_pipeline.datasets.card import Card
from medfocus_pipeline.datasets.contents import is_passing
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.manifest_columns import SCHEMA_VERSION
from medfocus_pipeline.datasets.reading import Reading
from medfocus_pipeline.sealed import canonical_json

RULES = 3
"""Raise it when a scan says something else of the same files than before."""


def digest_of(
    files: Iterable[pa.RecordBatch], *, name: str, source: str, card: Card | None, reading: Reading
) -> str:
    """What ``stat`` says of every file, and all that says how they are read: a SHA-256.

    Args:
        files: of `walk`, in its order and its parts.
        name: of the data set.
        source: the folder, resolved.
    """
    described = card.model_dump(mode="json") if card else None
    facts = [SCHEMA_VERSION, RULES, name, source, described, reading.model_dump(mode="json")]
    digest = hashlib.sha256(canonical_json(facts))
    for part in files:
        for buffer in (buffer for column in part.columns for buffer in column.buffers() if buffer):
            digest.update(buffer)
    return digest.hexdigest()


def is_settled(manifest: Manifest) -> bool:
    """Whether no file must be opened again though it looks the same."""
    problems = manifest.column("problem").unique().to_pylist()
    return not any(map(is_passing, problems))
