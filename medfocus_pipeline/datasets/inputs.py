"""What a scan of a folder depends on, as one digest: of equal ones the manifests are equal."""

import hashlib
from collections.abc import Iterable

from medfocus_pipeline.datasets.card import Card
from medfocus_pipeline.datasets.contents import is_passing
from medfocus_pipeline.datasets.found import Folder
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.manifest_columns import SCHEMA_VERSION
from medfocus_pipeline.datasets.reading import Reading
from medfocus_pipeline.sealed import canonical_json

RULES = 2
"""Raise it when a scan says something else of the same files than before."""


def digest_of(
    folders: Iterable[Folder], *, name: str, source: str, card: Card | None, reading: Reading
) -> str:
    """What ``stat`` says of every file, and all that says how they are read: two SHA-256.

    Args:
        folders: of `walk`, in its order; one is held at a time.
        name: of the data set.
        source: the folder, resolved.
    """
    described = card.model_dump(mode="json") if card else None
    facts = [SCHEMA_VERSION, RULES, name, source, described, reading.model_dump(mode="json")]
    rules, digest = hashlib.sha256(canonical_json(facts)), hashlib.sha256()
    for folder in folders:
        lines = [f"{path}\0{size}\0{time}\0{why}\0" for path, size, time, why in folder.files]
        digest.update("".join(lines).encode())
    return f"{rules.hexdigest()}-{digest.hexdigest()}"


def of_equal_rules(inputs: str, others: str) -> bool:
    """Whether two of `digest_of` are of files that are read alike."""
    return inputs.partition("-")[0] == others.partition("-")[0]


def is_settled(manifest: Manifest) -> bool:
    """Whether no file must be opened again though it looks the same."""
    problems = manifest.column("problem").unique().to_pylist()
    return not any(map(is_passing, problems))
