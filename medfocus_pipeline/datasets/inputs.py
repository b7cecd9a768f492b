"""What a scan depends on, as one digest: of equal ones the manifests are equal."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medfocus_pipeline.columns import found_at, joined, numbers, whole
from medfocus_pipeline.datasets.card import Card
from medfocus_pipeline.datasets.contents import is_passing
from medfocus_pipeline.datasets.found import together
from medfocus_pipeline.datasets.listed_files import files_again
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.manifest_columns import SCHEMA_VERSION
from medfocus_pipeline.datasets.reading import Reading
from medfocus_pipeline.datasets.tree import columns_below
from medfocus_pipeline.files import sha256
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.sealed import canonical_json

RULES = 3
"""Raise it when a scan says something else of the same files than before."""

_TREE, _FILES = "tree", "files"
"""A digest is of all that lies below a folder, or of the files alone that a CSV lists."""


class Inputs:
    """All that says how files are read.

    Args:
        name: of the data set.
        source: the folder or CSV, resolved.
        card, reading: of the data set.
        listing: the CSV; of one that cannot be read nothing is known.
    """

    def __init__(
        self,
        *,
        name: str,
        source: str,
        card: Card | None,
        reading: Reading,
        listing: Path | None = None,
    ) -> None:
        described = card.model_dump(mode="json") if card else None
        lines = None
        with suppress(OSError):
            lines = sha256(listing) if listing else None
        facts = [SCHEMA_VERSION, RULES, name, source, described, reading.model_dump(mode="json")]
        self._rules = canonical_json([*facts, lines])

    def of_tree(self, parts: Sequence[pa.RecordBatch]) -> str:
        """The digest with every image below a folder.

        Args:
            parts: of `columns_below`.
        """
        return self._digest(_TREE, parts)

    def of_listed(self, root: Path, files: pa.RecordBatch, parts: Sequence[pa.RecordBatch]) -> str:
        """The digest with what a CSV lists; empty where it is not told by a look at the files.

        Args:
            root: the data folder.
            files: as `FILES`, by path.
            parts: see `find_files`.
        """
        if isinstance(root, ObjectPath):
            parts = parts or columns_below(root)  # one listing is less than to ask for each
        if not parts:
            return self._digest(_FILES, [files])
        return self.of_tree(parts) if _agree(files, together(parts)) else ""

    def again(self, root: Path, previous: Manifest) -> str:
        """The digest of a CSV that was read before, with its files as they are now."""
        if previous.inputs.startswith(_TREE):
            return self.of_tree(columns_below(root))
        if previous.inputs.startswith(_FILES):
            return self._digest(_FILES, [files_again(root, whole(previous.column("path")))])
        return ""

    def _digest(self, kind: str, parts: Sequence[pa.RecordBatch]) -> str:
        digest = hashlib.sha256(self._rules)
        for part in parts:
            for name in ("bytes", "mtime_ns"):
                digest.update(numbers(part.column(name)).tobytes())
            for name in ("path", "refused"):
                digest.update(numbers(pc.binary_length(part.column(name))).tobytes())
                digest.update(joined(part.column(name)))
        return f"{kind}-{digest.hexdigest()}"


def is_settled(manifest: Manifest) -> bool:
    """Whether no file must be opened again though it looks the same."""
    problems = manifest.column("problem").unique().to_pylist()
    return not any(map(is_passing, problems))


def _agree(files: pa.RecordBatch, among: pa.RecordBatch) -> bool:
    """Whether all files are among these, and stat as they do."""
    places = found_at(files.column("path"), among.column("path"))
    return bool((places >= 0).all()) and all(
        np.array_equal(numbers(files.column(name)), numbers(among.column(name))[places])
        for name in ("bytes", "mtime_ns")
    )
