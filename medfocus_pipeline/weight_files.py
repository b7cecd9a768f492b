"""Files of tensors: writing them whole, and the boundary of loading them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfocus_pipeline.errors import MedFocusError, WeightsError
from medfocus_pipeline.files import replacing
from medfocus_pipeline.hub import first_line
from medfocus_pipeline.tensors import beyond_tensors, is_safetensors
from medfocus_pipeline.weights import Weights

if TYPE_CHECKING:
    from torch import Tensor

CONFIG = "config.json"
"""What describes a model of transformers."""


def model_type(config_file: Path, known: Sequence[str]) -> str:
    """The ``model_type`` of a ``config.json``.

    Raises:
        ValueError: no JSON, or none of the known types.
    """
    kind = json.loads(config_file.read_text(encoding="utf-8")).get("model_type")
    if kind not in known:
        expected = f"one of {', '.join(known)}" if len(known) > 1 else repr(known[0])
        raise ValueError(f"its model_type is {kind!r}, not {expected}")
    return str(kind)


def pretrained(kind: Any, weights: Weights) -> Any:
    """A model of local files, float32, in evaluation mode: no network, no remote code.

    Args:
        kind: a class of transformers, ``SamModel``.
        weights: tensors alone are taken out of them.

    Raises:
        ValueError: tensors are missing or do not fit; whatever else transformers raises too.
    """
    import torch

    model, notes = kind.from_pretrained(
        weights.paths[CONFIG].parent,
        dtype=torch.float32,
        use_safetensors=is_safetensors(weights.paths),
        weights_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    # transformers fills what is missing or does not fit with random numbers and goes on.
    unfit = [*notes["missing_keys"], *(name for name, *_ in notes["mismatched_keys"])]
    if unfit:
        raise ValueError(f"{len(unfit)} tensors are missing or do not fit, such as {unfit[0]}")
    return model.eval()


def _unusable(weights: Weights, kind: str, error: Exception) -> WeightsError:
    """The one-sentence error for files that are there but do not load as a `kind`."""
    name = weights.identity.id
    if beyond := beyond_tensors(weights.paths.values(), error):
        return WeightsError(
            f"Weights of {name} do not load as {kind}: {beyond}, and MedFocus takes nothing but "
            "tensors out of such a file; name another revision or model, or, where you trust its "
            "authors, a folder with its tensors saved as safetensors."
        )
    if weights.identity.revision is None:
        remedy = "name a file or folder of that model"
    else:
        remedy = f"if they are corrupt, delete them and run `medfocus models pull {name}`"
    return WeightsError(f"Weights of {name} do not load as {kind}: {first_line(error)}; {remedy}.")


def write_tensors(
    path: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str] | None = None
) -> None:
    """Writes what was trained as safetensors, whole or not at all.

    Raises:
        WeightsError: a weight is not finite.
    """
    from safetensors.torch import save

    wrong = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if wrong:
        raise WeightsError(
            f"Weights are not finite ({', '.join(wrong[:3])}): the training diverged. Train anew "
            "in another folder (--work) with a smaller learning rate (--set learning_rate=...)."
        )
    with replacing(path) as temporary:
        temporary.write_bytes(save(dict(tensors), dict(metadata) if metadata else None))


@contextmanager
def loading(weights: Weights, kind: str) -> Iterator[None]:
    """The boundary of loading: what any library raises on a file that is no `kind`, is one error.

    Torch, safetensors, timm and transformers raise a dozen classes, of which none is documented.

    Raises:
        WeightsError: the files do not load.
    """
    import torch

    try:
        yield
    except (MedFocusError, MemoryError, ImportError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise _unusable(weights, kind, error) from error
