"""Fitted heads as named arrays and JSON, and back: how a head is kept in a file.

A fitted head is a dataclass of what it predicts with. It is stored field by field: an array under
the path of its field, all else as JSON, so that one that was read again gives the same
probabilities. CoCoOp needs the text tower to predict: that is named, not stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import Frozen
from medfocus_pipeline.encoders.prompt_tower import PromptSource
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.heads.protocol import FittedHead
from medfocus_pipeline.heads.table import HEADS
from medfocus_pipeline.types import JSON

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """A fitted head, taken apart.

    Attributes:
        kind: name of the head in the table, of the first that ends in the same.
        arrays: path of a field -> array of any shape, float32 or float64, C-contiguous.
        settings: the other fields, and what was chosen.
    """

    kind: str
    arrays: Arrays
    settings: JSON


def save(fitted: FittedHead) -> Saved:
    """A fitted head's arrays and settings.

    Raises:
        TypeError: it is of no head of the table.
    """
    for kind, entry in HEADS.items():
        if type(fitted) is entry.fitted:
            arrays: dict[str, NDArray[Any]] = {}
            settings = _taken_apart(fitted, "", arrays)
            return Saved(kind, arrays, {**settings, "chosen": fitted.chosen})
    raise TypeError(f"No way to store a {type(fitted).__name__}.")


def load(saved: Saved, *, prompts: PromptSource | None = None) -> FittedHead:
    """The head that was taken apart.

    Args:
        saved: from `save`; its arrays are copied.
        prompts: the text tower, for a head that predicts with it.

    Raises:
        WeightsError: an array or setting is missing, or the text tower is needed and not given.
    """
    if saved.kind not in HEADS:
        raise WeightsError(
            f"The stored head is of the kind {saved.kind!r}, known are {', '.join(HEADS)}. "
            "It was exported by another version of MedFocus: export it again."
        )
    # Copied: torch takes no arrays that are read-only, as those of a mapped file are.
    arrays = {name: np.array(array) for name, array in saved.arrays.items()}
    try:
        fitted: FittedHead = _put_together(
            HEADS[saved.kind].fitted, saved.settings, "", arrays, prompts
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"The stored head ({saved.kind}) is not whole: {error}. Export it again."
        ) from error
    return fitted


def _taken_apart(value: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """What of a value is JSON; its arrays are put among the others."""
    match value:
        case np.ndarray():
            arrays[path] = np.ascontiguousarray(value)
            return None
        case Frozen():
            return value.model_dump(mode="json")
        case list() | tuple():
            return [_taken_apart(one, f"{path}.{at}", arrays) for at, one in enumerate(value)]
        case dict():
            parts = dict(value)
        case _ if is_dataclass(value):
            parts = {field.name: getattr(value, field.name) for field in fields(value)}
        case _:
            return value
    named = {name: one for name, one in parts.items() if not isinstance(one, PromptSource)}
    return {name: _taken_apart(one, _below(path, name), arrays) for name, one in named.items()}


def _put_together(
    kind: Any, stored: Any, path: str, arrays: Arrays, prompts: PromptSource | None
) -> Any:
    """A value of a kind, as a dataclass's field declares it, from what `_taken_apart` left."""

    def part(kind: Any, stored: Any, name: object) -> Any:
        return _put_together(kind, stored, _below(path, name), arrays, prompts)

    origin, inner = get_origin(kind), get_args(kind)
    if origin is np.ndarray:
        return arrays[path]
    if kind is PromptSource:
        if prompts is None:
            raise ValueError("it predicts with the text tower of a CLIP, and none was given")
        return prompts
    if isinstance(kind, type) and issubclass(kind, Frozen):
        return kind.model_validate(stored)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        own = {field.name: hints[field.name] for field in fields(kind)}
        held = stored | {name: None for name, one in own.items() if one is PromptSource}
        return kind(**{name: part(one, held[name], name) for name, one in own.items()})
    if origin is dict:
        return {name: part(inner[1], one, name) for name, one in stored.items()}
    if origin is list:
        return [part(inner[0], one, at) for at, one in enumerate(stored)]
    if origin is tuple:
        pairs = zip(inner, stored, strict=True)
        return tuple(part(one, value, at) for at, (one, value) in enumerate(pairs))
    return stored


def _below(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)
