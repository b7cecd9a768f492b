"""A gate in two files: ``gate.json``, what it is, and ``gate.safetensors``, its arrays. No pickle.

The arrays are ``rows`` ``(n, d) float16`` of an `OwnGate`, or ``texts`` ``(P, d) float32`` of a
`ZeroShot`. The models are not in it: their files are named by SHA-256, and others are refused.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from medfocus_pipeline.config import EncoderConfig, Frozen, Pooling
from medfocus_pipeline.errors import DamagedError, WeightsError
from medfocus_pipeline.files import disk_errors, replacing, sha256
from medfocus_pipeline.gate.neighbours import Neighbours
from medfocus_pipeline.gate.own import OwnGate
from medfocus_pipeline.gate.zero_shot import ZeroShot
from medfocus_pipeline.model_record import Model
from medfocus_pipeline.sealed import SEAL, present, read_bytes, read_json, write_json
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.types import JSON, FeatureKind, Fit

DESCRIBED, TENSORS = "gate.json", "gate.safetensors"
_OWNER = "gate"

Fitted: TypeAlias = OwnGate | ZeroShot


class OwnSettings(Frozen):
    """Of an `OwnGate`; ``images`` it was fitted on."""

    kind: Literal["own"] = "own"
    neighbour: int = Field(ge=1)
    median: float = Field(ge=0)
    reach: float = Field(ge=0)
    images: int = Field(ge=1)


class ZeroShotSettings(Frozen):
    """Of a `ZeroShot`; ``prompts`` is a digest of the texts."""

    kind: Literal["zero_shot"] = "zero_shot"
    groups: tuple[str, ...] = Field(min_length=2)
    medical: int = Field(ge=1)
    temperature: float = Field(gt=0)
    pooling: Pooling
    prompts: str


class GateDescription(Frozen):
    """Everything about a gate but its arrays.

    Attributes:
        version: of this format.
        encoder: of whole images.
        model: the encoder's weights.
        feature: what is taken of an image.
        fit: how it becomes the encoder's square.
        settings: of the method.
        tensors_sha256: of the arrays' file, or empty where they are in another one.
    """

    format: Literal["medfocus-gate"] = "medfocus-gate"
    version: Literal[1] = 1
    encoder: EncoderConfig
    model: Model
    feature: FeatureKind
    fit: Fit
    settings: OwnSettings | ZeroShotSettings = Field(discriminator="kind")
    tensors_sha256: str = ""

    @property
    def key(self) -> str:
        """Names the gate: other scores have another key."""
        return digest(self.model_dump(mode="json"))


@dataclass(frozen=True, slots=True, eq=False)
class SavedGate:
    """A gate without its encoder.

    Attributes:
        described: what it is.
        fitted: what it learned.
    """

    described: GateDescription
    fitted: Fitted


def settings_of(fitted: Fitted, *, images: int, prompts: str) -> OwnSettings | ZeroShotSettings:
    """What is not an array of a gate.

    Args:
        images: that an `OwnGate` was fitted on.
        prompts: digest of a `ZeroShot`'s texts.
    """
    if isinstance(fitted, OwnGate):
        near = fitted.near.neighbour
        return OwnSettings(neighbour=near, median=fitted.median, reach=fitted.reach, images=images)
    return ZeroShotSettings(
        groups=fitted.groups,
        medical=fitted.medical,
        temperature=fitted.temperature,
        pooling=fitted.pooling,
        prompts=prompts,
    )


def arrays_of(fitted: Fitted) -> dict[str, NDArray[Any]]:
    """The arrays of a gate by name."""
    if isinstance(fitted, OwnGate):
        return {"rows": fitted.near.rows}
    return {"texts": fitted.texts}


def fitted_of(described: GateDescription, arrays: Mapping[str, NDArray[Any]]) -> Fitted:
    """A gate from its parts.

    Raises:
        WeightsError: an array is missing, not finite, or of another shape than described.
    """
    settings = described.settings
    if isinstance(settings, OwnSettings):
        rows, least = arrays.get("rows"), settings.neighbour
    else:
        rows, least = arrays.get("texts"), len(settings.groups)
    if rows is None or rows.ndim != 2 or len(rows) < least or not np.isfinite(rows).all():
        raise WeightsError(
            "The arrays of the gate are missing, not finite, or of another shape than described. "
            "Scan again with --gate, which makes it anew."
        )
    if isinstance(settings, OwnSettings):
        return OwnGate(Neighbours(rows, settings.neighbour), settings.median, settings.reach)
    places = (settings.groups, settings.medical, settings.temperature, settings.pooling)
    return ZeroShot(rows, *places)


def write_gate(folder: Path, gate: SavedGate) -> SavedGate:
    """Write a gate; what was there is replaced.

    Returns:
        The gate with the hash of its arrays.

    Raises:
        StoreError: the disk is full or read-only.
    """
    from safetensors.numpy import save

    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / TENSORS) as temporary:
            temporary.write_bytes(save(arrays_of(gate.fitted)))
        hashed = {"tensors_sha256": sha256(folder / TENSORS)}
        described = gate.described.model_copy(update=hashed)
        write_json(folder / DESCRIBED, described.model_dump(mode="json"), owner=_OWNER)
    return SavedGate(described, gate.fitted)


def read_gate(folder: Path) -> SavedGate | None:
    """The gate of a folder; None where there is none that can be used: it is made anew."""
    if not present(folder / DESCRIBED):
        return None
    try:
        return load_gate(folder)
    except DamagedError:
        return None


def load_gate(folder: Path) -> SavedGate:
    """The gate of a folder that has one.

    Raises:
        AccessError: it cannot be read now.
        DamagedError: it is not whole, or was changed.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    said: JSON = dict(read_json(folder / DESCRIBED, owner=_OWNER))
    said.pop(SEAL, None)
    content = read_bytes(folder / TENSORS)
    try:
        described = GateDescription.model_validate(said)
        if hashlib.sha256(content).hexdigest() != described.tensors_sha256:
            raise DamagedError(f"{folder / TENSORS} is not the file that {DESCRIBED} names")
        return SavedGate(described, fitted_of(described, load(content)))
    except (WeightsError, ValidationError, SafetensorError) as error:
        raise DamagedError(f"{folder / DESCRIBED} is no gate: {error}") from error
