"""What a store was made from, and the key that follows from it."""

import hashlib
import re
from dataclasses import asdict, dataclass

from medfocus_pipeline.sealed import canonical_json
from medfocus_pipeline.types import JSON

KEY_LENGTH = 8
"""Characters of the key in a folder's name; the whole key stands in ``store.json``."""


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines the numbers in a store, and nothing else.

    Attributes:
        stage: ``masks``, ``embeddings`` or ``texts``.
        version: schema version of that stage's store.
        config: the stage's configuration without paths.
        model: `ModelIdentity.as_json`.
        upstream: key of the store that this one was computed from, if any.
    """

    stage: str
    version: int
    config: JSON
    model: JSON
    upstream: str | None

    def as_json(self) -> JSON:
        """The recipe as it stands in ``store.json``."""
        return asdict(self)

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON."""
        return digest(self.as_json())

    def folder(self, label: str) -> str:
        """Name of the store's folder: a readable label and the start of the key."""
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", label).strip("-")
        return f"{readable}-{self.key[:KEY_LENGTH]}"
