"""What a training run leaves on disk: checkpoints to go on from, a log, the trained weights."""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfocus_pipeline.errors import ConfigError, WeightsError
from medfocus_pipeline.files import replacing
from medfocus_pipeline.sealed import no_access
from medfocus_pipeline.weight_files import write_tensors

if TYPE_CHECKING:
    from torch import Tensor


_SEAL = 32
"""Bytes in front of what torch wrote: its SHA-256."""


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Writes all that a run needs to go on; `path` is whole or as it was before.

    Args:
        state: tensors, numbers, strings, and dicts and lists of these.
    """
    import torch

    buffer = io.BytesIO()  # writing to a full disk, torch itself would not say so
    torch.save(dict(state), buffer)
    content = buffer.getbuffer()
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(hashlib.sha256(content).digest())
        file.write(content)


def load_checkpoint(path: Path, *, recipe: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, on the CPU; None if there is no such file.

    Args:
        recipe: what the run is made from; it must be the checkpoint's own ``recipe``.

    Raises:
        AccessError: the file cannot be read now.
        ConfigError: the checkpoint is of a run with another recipe.
        WeightsError: the file was changed.
    """
    import torch

    if not path.is_file():
        return None
    try:
        whole = memoryview(path.read_bytes())
    except OSError as error:
        raise no_access(path, error) from error
    seal, content = whole[:_SEAL], whole[_SEAL:]
    if hashlib.sha256(content).digest() != seal:  # torch.load compares no checksum
        raise WeightsError(
            f"Checkpoint {path} cannot be read as it was written; delete it to train anew."
        )
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    found = state["recipe"]
    changed = [name for name in {**found, **recipe} if found.get(name) != recipe.get(name)]
    if changed:
        raise ConfigError(
            f"{path} is of a training with other settings ({', '.join(changed)} changed); name "
            "another folder with --work, or delete this one to train anew."
        )
    return state


def save_weights(path: Path, tensors: "Mapping[str, Tensor]") -> None:
    """Writes weights as safetensors, half precision: fp16 has three digits and is half the size.

    Raises:
        WeightsError: a weight is not finite, in fp16.
    """
    halves = {name: tensor.detach().half().contiguous() for name, tensor in tensors.items()}
    write_tensors(path, halves)


class CsvLog:
    """A table that grows by a row now and then, and can be cut back to where a run goes on.

    Args:
        path: of the file; it is made with its header when the first row comes.
        columns: the first is the step, ascending.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path = path
        self._columns = list(columns)

    def cut(self, step: int) -> None:
        """Drops the rows after `step`: a run that goes on writes them again."""
        if not self._path.is_file():
            return
        with self._path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        with replacing(self._path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([header, *(row for row in rows if int(row[0]) <= step)])

    def write(self, row: Mapping[str, float]) -> None:
        """Adds a row; a column that is not in `row` stays empty."""
        fresh = not self._path.is_file()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(self._columns)
            writer.writerow([_text(row.get(name)) for name in self._columns])


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
