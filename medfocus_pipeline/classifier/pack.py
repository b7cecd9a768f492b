"""The folder of one fitted run: ``model.safetensors``, ``config.json``, ``README.md``. No pickle.

``config.json`` is a `PackConfig`, sealed and written last: without it, or with tensors of another
SHA-256 than it names, the folder is none. Tensors are called

    head.<name>           of the fitted head, see `heads.saved`
    network.<name>        of a fine-tuned network, what was trained of it: of LoRA the adapter
    texts                 (K, d_text) float32, L2-normalised class texts, where there are any
    familiar              (n, D) float16, see `novelty`
    gate.<name>           of the data set's gate, see `gate.saved`, where there is one

The models of stage one are not in it. Their files are named by SHA-256, and others are refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from medfocus_pipeline.classifier.novelty import Familiar
from medfocus_pipeline.classifier.pack_config import PackConfig
from medfocus_pipeline.errors import ConfigError, StoreError, WeightsError
from medfocus_pipeline.files import disk_errors, replacing, sha256, write_text
from medfocus_pipeline.gate.saved import SavedGate, arrays_of, fitted_of
from medfocus_pipeline.heads.saved import Saved
from medfocus_pipeline.sealed import SEAL, parse_json, present, read_json, write_json
from medfocus_pipeline.tuning.network import NETWORK
from medfocus_pipeline.types import FloatArray

CONFIG, TENSORS, CARD = "config.json", "model.safetensors", "README.md"

_HEAD, _GATE = "head.", "gate."
_OWNER = "classifier"


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """A classifier as it is stored.

    Attributes:
        config: see `PackConfig`.
        head: the fitted head, taken apart.
        texts: ``(K, d_text) float32``; None without a text tower.
        familiar: what training images look like.
        gate: what learned to refuse other images, described as in `config`; None without one.
        network: tensors of a fine-tuned network by name, see `tuning.kept`; none of another.
    """

    config: PackConfig
    head: Saved
    texts: FloatArray | None
    familiar: Familiar
    gate: SavedGate | None = None
    network: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def write_pack(pack: Pack, card: str, folder: Path) -> None:
    """Write a pack; one that is there already is replaced.

    Args:
        pack: what to write; `tensors_sha256` is filled in.
        card: the text of ``README.md``.
        folder: is made; one that holds anything but a pack is refused.

    Raises:
        ConfigError: the folder holds something else.
        StoreError: the disk is full or read-only.
    """
    from safetensors.numpy import save

    strange = _strangers(folder)
    if strange:
        raise ConfigError(
            f"{folder} holds {strange[0]!r}, which is no part of a classifier. "
            "Name a new or empty folder: --out FOLDER"
        )
    arrays = {f"{_HEAD}{name}": array for name, array in pack.head.arrays.items()}
    arrays |= pack.network
    arrays["familiar"] = pack.familiar.rows
    if pack.texts is not None:
        arrays["texts"] = pack.texts
    if pack.gate is not None:
        own = arrays_of(pack.gate.fitted)
        arrays |= {f"{_GATE}{name}": array for name, array in own.items()}
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / TENSORS) as temporary:
            temporary.write_bytes(save(arrays))
        write_text(folder / CARD, card)
        config = pack.config.model_copy(update={"tensors_sha256": sha256(folder / TENSORS)})
        write_json(folder / CONFIG, config.model_dump(mode="json"), owner=_OWNER)


def read_pack(folder: Path) -> Pack:
    """Read a pack.

    Raises:
        WeightsError: the folder is no pack, not whole, or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    config = _read_config(folder)
    try:
        if sha256(folder / TENSORS) != config.tensors_sha256:
            raise WeightsError(
                f"{folder / TENSORS} is not the file that {CONFIG} was written with: it was "
                "changed, or a copy broke off. Copy the folder anew, or export it again."
            )
        arrays = load_file(folder / TENSORS)
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{folder / TENSORS} cannot be read ({error}). Export the classifier again."
        ) from error
    _check_arrays(arrays, config, folder)
    head = {name[len(_HEAD) :]: array for name, array in arrays.items() if name.startswith(_HEAD)}
    return Pack(
        config,
        Saved(config.head_kind, head, config.head_settings),
        arrays.get("texts"),
        Familiar(arrays["familiar"], config.neighbour, config.threshold),
        _gate(arrays, config),
        {name: array for name, array in arrays.items() if name.startswith(NETWORK)},
    )


def _gate(arrays: Mapping[str, NDArray[Any]], config: PackConfig) -> SavedGate | None:
    if config.gate is None:
        return None
    own = {name[len(_GATE) :]: array for name, array in arrays.items() if name.startswith(_GATE)}
    return SavedGate(config.gate, fitted_of(config.gate, own))


def _check_arrays(arrays: Mapping[str, NDArray[Any]], config: PackConfig, folder: Path) -> None:
    """Refuse what no export writes: arrays that are missing, not finite, or of other shapes.

    Raises:
        WeightsError: the first of them.
    """
    classes = len(config.classes)
    expected = {
        "familiar": ("(n, D) with n from the neighbour on", _is_familiar(arrays, config)),
        "texts": (f"({classes}, d)", _is_matrix(arrays.get("texts"), classes)),
        "head.coef": (f"({classes}, D)", _is_matrix(arrays.get("head.coef"), classes)),
    }
    wrong = {name: text for name, (text, right) in expected.items() if not right}
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            wrong[name] = "finite numbers"
    for name, text in wrong.items():
        raise WeightsError(
            f"{folder / TENSORS} is no classifier's: {name} is not {text}. "
            "Export it again: medfocus export"
        )


def _is_familiar(arrays: Mapping[str, NDArray[Any]], config: PackConfig) -> bool:
    rows = arrays.get("familiar")
    return rows is not None and rows.ndim == 2 and len(rows) >= config.neighbour


def _is_matrix(array: NDArray[Any] | None, rows: int) -> bool:
    return array is None or (array.ndim == 2 and len(array) == rows)


def _read_config(folder: Path) -> PackConfig:
    path = folder / CONFIG
    try:
        if not present(path):
            raise WeightsError(
                f"{folder} is no folder of a classifier: it has no {CONFIG}. Make one: "
                "medfocus export DATASET --head fusion --out FOLDER, then name it: --from FOLDER"
            )
        said = parse_json(path)
        if isinstance(said, dict):
            said.pop(SEAL, None)
        config = PackConfig.model_validate(said)
        read_json(path, owner=_OWNER)
    except StoreError as error:
        raise WeightsError(f"{error}. Export the classifier again: medfocus export") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"])) or "the file"
        raise WeightsError(
            f"{path} is not that of a classifier, or of another version of MedFocus: {place}: "
            f"{problem['msg']}. Export it again: medfocus export"
        ) from error
    return config


def _strangers(folder: Path) -> list[str]:
    """Names in a folder that are no part of a pack."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        return [folder.name]
    ours = {CONFIG, TENSORS, CARD}
    names = {path.name for path in folder.iterdir()}
    left_over = {name for name in names if name.startswith(".") and name.endswith(".partial")}
    others = sorted(names - ours - left_over)
    return others or ([CARD] if names & ours == {CARD} else [])
