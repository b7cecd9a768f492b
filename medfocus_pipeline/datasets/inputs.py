"""What a scan of a folder depends on, as one digest: of equal ones the manifests are equal."""

import hashlib
from collections.abc import Sequence

from medfocus_pipeline.datasets.card import Card
from medfocus_pipeline.datasets.contents import TOO_MANY
from medfocus_pipeline.datasets.manifest import SCHEMA_VERSION, Manifest
from medfocus_pipeline.datasets.readers import may_pass
from medfocus_pipeline.datasets.reading import Reading
from medfocus_pipeline.datasets.tree import ImageFile
from medfocus_pipeline.sealed import canonical_json

RULES = 1
"""Raise it when a scan says something else of the same files than before."""

_BATCH = 4096


def digest_of(
    files: Sequence[ImageFile], *, name: str, source: str, card: Card | None, reading: Reading
) -> str:
    """SHA-256 of what ``stat`` says of every file, and of all that says how they are read.

    Args:
        files: in order.
        name: of the data set.
        source: the folder, resolved.
    """
    described = card.model_dump(mode="json") if card else None
    facts = [SCHEMA_VERSION, RULES, name, source, described, reading.model_dump(mode="json")]
    digest = hashlib.sha256(canonical_json(facts))
    for first in range(0, len(files), _BATCH):
        lines = [
            f"{file.path}\0{file.bytes}\0{file.mtime_ns}\0{file.refused}\0"
            for file in files[first : first + _BATCH]
        ]
        digest.update("".join(lines).encode())
    return digest.hexdigest()


def is_settled(manifest: Manifest) -> bool:
    """Whether no file must be opened again though it looks the same."""
    return not any(
        may_pass(problem) or problem == TOO_MANY for problem in set(manifest.strings("problem"))
    )
