"""The files that a model's tensors come in: whole or in shards, safetensors or PyTorch's own."""

import json
import pickle
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from zipfile import is_zipfile

from medfocus_pipeline.errors import WeightsError

_INDEX = ".index.json"
_PICKLED = (".bin", ".pt", ".pth")

FORMATS = "|".join(
    f"{name}{ending}"
    for name in ("model.safetensors", "pytorch_model.bin")
    for ending in ("", _INDEX)
)
"""A need of `hub_weights`: the tensors of a model of transformers, in the package's order."""


def tensors_file(names: Iterable[str]) -> str:
    """Which of a model's files has the tensors, or lists the files that have them.

    Raises:
        KeyError: none.
    """
    given = set(names)
    found = next((name for name in FORMATS.split("|") if name in given), None)
    if found is None:
        raise KeyError(f"none of {FORMATS}")
    return found


def tensors_sha256(digests: Mapping[str, str]) -> str:
    """One digest of a model's tensors: the file's own, or of its shards' together.

    Args:
        digests: of the model's files, by name.
    """
    name = tensors_file(digests)
    if not name.endswith(_INDEX):
        return digests[name]
    first, ending = name.removesuffix(_INDEX).split(".")
    shards = sorted(file for file in digests if file.startswith(f"{first}-") and ending in file)
    return sha256("".join(digests[shard] for shard in shards).encode()).hexdigest()


def is_safetensors(names: Iterable[str]) -> bool:
    """Whether a model's tensors are safetensors."""
    return ".safetensors" in tensors_file(names)


def shards_of(index: Path) -> list[str]:
    """File names that an index lists; none for a file that is no index.

    Raises:
        WeightsError: the index is damaged.
    """
    if not index.name.endswith(_INDEX):
        return []
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        wrong = [name for name in names if Path(name).name != name]
        if wrong:
            raise ValueError(f"it lists {wrong[0]!r}, which is no file beside it")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{index} is no index of tensors: {error}; delete it and pull the model again."
        ) from error
    return sorted(names)


def beyond_tensors(paths: Iterable[Path], error: Exception) -> str:
    """Which file made torch refuse, and what it asks for beside tensors; empty if none did."""
    if not isinstance(error, pickle.UnpicklingError):
        return ""
    from torch.serialization import get_unsafe_globals_in_checkpoint

    for path in paths:
        if path.suffix in _PICKLED and is_zipfile(path):
            asked = get_unsafe_globals_in_checkpoint(path)
            if asked:
                return f"{path.name} asks for {', '.join(sorted(asked))}"
    return ""
