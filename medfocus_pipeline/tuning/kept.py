"""What is kept of a fine-tuned run: the tensors that were trained, and where they belong.

``trained.safetensors`` has them by name, ``network.<name>`` and ``layer.<name>``; of LoRA that is
the adapter alone. ``run.json``, written last, says of which encoder.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from medfocus_pipeline.config import EncoderConfig, Frozen
from medfocus_pipeline.config.tuning import FinetuneConfig, SearchConfig
from medfocus_pipeline.devices import calls_at_once
from medfocus_pipeline.embedding import pooled_arrays
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.errors import DamagedError, WeightsError
from medfocus_pipeline.files import sha256
from medfocus_pipeline.heads.linear import FittedLinear
from medfocus_pipeline.sealed import present, read_bytes, read_json, write_json
from medfocus_pipeline.stores.job import Block, Job, compute_all
from medfocus_pipeline.tuning.network import LAYER, NETWORK, prepared
from medfocus_pipeline.types import JSON, FloatArray
from medfocus_pipeline.vectors import joined
from medfocus_pipeline.weight_files import write_tensors

TENSORS, RUN = "trained.safetensors", "run.json"

_OWNER = "finetune"
_BOUND = "tensors_sha256"
"""Key of the tensors' hash in ``run.json``."""


class Kept(Frozen):
    """A run that was trained.

    Attributes:
        key: of the run.
        encoder: where it began.
        planned, search: as it was asked for.
        run: with what the search chose.
    """

    key: str
    encoder: EncoderConfig
    planned: FinetuneConfig
    search: SearchConfig
    run: FinetuneConfig


def keep(folder: Path, kept: Kept, tensors: Mapping[str, Any]) -> None:
    """Write what was trained.

    Raises:
        WeightsError: a weight is not finite.
    """
    write_tensors(folder / TENSORS, {name: one.contiguous() for name, one in tensors.items()})
    described = {**kept.model_dump(mode="json"), _BOUND: sha256(folder / TENSORS)}
    write_json(folder / RUN, described, owner=_OWNER)


def read_kept(folder: Path) -> tuple[Kept, dict[str, NDArray[Any]]]:
    """What `keep` wrote.

    Raises:
        DamagedError: it is missing, or was changed.
        AccessError: it cannot be read now.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    described = _described(folder)
    content = read_bytes(folder / TENSORS)
    if hashlib.sha256(content).hexdigest() != described.pop(_BOUND, None):
        raise DamagedError(f"{folder / TENSORS} is not the file that {RUN} names")
    try:
        return Kept.model_validate(described), load(content)
    except (ValidationError, SafetensorError) as error:
        raise DamagedError(f"{folder / RUN} is of another version: {error}") from error


def read_description(folder: Path) -> Kept:
    """What `keep` wrote, without the tensors.

    Raises:
        DamagedError: it is missing, or was changed.
    """
    described = _described(folder)
    described.pop(_BOUND, None)
    try:
        return Kept.model_validate(described)
    except ValidationError as error:
        raise DamagedError(f"{folder / RUN} is of another version: {error}") from error


def _described(folder: Path) -> JSON:
    return dict(read_json(folder / RUN, owner=_OWNER))


def is_partial(folder: Path) -> bool:
    """Whether a run's folder lacks what is written last; one that is gone was removed whole."""
    return present(folder) and not present(folder / RUN)


def restore(
    encoder: Encoder, run: FinetuneConfig, tensors: Mapping[str, NDArray[Any]], *, label: str
) -> None:
    """Put trained tensors into the encoder that they were trained in.

    Args:
        encoder: freshly loaded; it is changed.
        run: how it was trained.
        tensors: by name; those of the layer are not read.
        label: of the encoder, for messages.

    Raises:
        WeightsError: they are of another network.
    """
    import torch

    network, _ = prepared(encoder, run, label=label)
    named = dict(network.named_parameters())
    wanted = {n.removeprefix(NETWORK): t for n, t in tensors.items() if n.startswith(NETWORK)}
    for name, array in wanted.items():
        if name not in named or named[name].shape != array.shape:
            raise WeightsError(
                f"The fine-tuned weights are of another network than {label}: it has no {name} of "
                f"the shape {array.shape}. Train it again: medfocus finetune"
            )
        with torch.no_grad():
            named[name].copy_(torch.from_numpy(np.array(array)))


def layer_of(tensors: Mapping[str, Any], chosen: JSON) -> FittedLinear:
    """The classification layer as the head that it is: linear, on features of length 1."""
    weight, bias = (np.asarray(tensors[f"{LAYER}{name}"]) for name in ("weight", "bias"))
    return FittedLinear(weight.astype(np.float64), bias.astype(np.float64), chosen)


def embedded(encoder: Encoder, pictures: NDArray[np.uint8]) -> FloatArray:
    """Features of pictures as stage one would keep them, ``(n, 1, d) float32`` of length 1.

    So whoever looks at the same images with the exported run sees the same numbers.

    Args:
        pictures: ``(n, s, s, 3) uint8``.
    """

    def compute(rows: Any) -> Block:
        found = pooled_arrays(encoder, pictures[np.array(rows)], None)["pooled"]
        return Block({"pooled": found}, {})

    with calls_at_once("auto") as calls:
        job = Job(lambda _: 0, compute, encoder.batch_size, workers=1, calls=calls)
        blocks = compute_all(job, range(len(pictures)))
    pooled = np.concatenate([block.arrays["pooled"] for block in blocks])[:, None]
    return joined([[pooled.astype(np.float16)]])
