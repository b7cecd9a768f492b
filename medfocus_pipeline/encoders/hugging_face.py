"""What the encoders of transformers do alike: find their files, load them, prepare pictures."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.encoders.pooling import level_indices, square_grid
from medfocus_pipeline.tensors import FORMATS, is_safetensors
from medfocus_pipeline.types import Image
from medfocus_pipeline.weights import FileHashes, Weights, find_files

if TYPE_CHECKING:
    import torch

CONFIG = "config.json"
_PREPROCESSING = "preprocessor_config.json|processor_config.json"


def find_model(
    model: str,
    revision: str | None,
    hashes: FileHashes,
    *,
    files: Sequence[str] = (),
    optional: Sequence[str] = (),
    download: bool,
) -> Weights | None:
    """The files of a hub model or a local folder; see `hub_weights`.

    Args:
        model: hub id, or path of a folder.
        revision: branch, tag or commit; None is ``main``.
        hashes: memo of file hashes.
        files: beside configuration, tensors and preprocessing.
        optional: names taken where they exist.
        download: fetch what is missing.

    Raises:
        WeightsError: the folder lacks a file, or the hub's files cannot be had.
    """
    # The tensors last: while they are on their way, nothing else is missing.
    needed = (CONFIG, _PREPROCESSING, *files, FORMATS)
    return find_files(
        model, needed, optional=optional, revision=revision, hashes=hashes, download=download
    )


def model_type(config_file: Path, known: Sequence[str]) -> str:
    """The ``model_type`` of a ``config.json``.

    Raises:
        ValueError: no JSON, or none of the known types.
    """
    kind = json.loads(config_file.read_text(encoding="utf-8")).get("model_type")
    if kind not in known:
        raise ValueError(f"its model_type is {kind!r}, not one of {', '.join(known)}")
    return str(kind)


def from_pretrained(weights: Weights) -> tuple[Any, Any]:
    """Model and image processor of local files: no network, no remote code, tensors alone.

    Raises:
        ValueError: tensors are missing or do not fit; whatever else transformers raises too.
    """
    import torch
    from transformers import AutoImageProcessor, AutoModel

    folder = weights.paths[CONFIG].parent
    model, loading = AutoModel.from_pretrained(
        folder,
        dtype=torch.float32,
        use_safetensors=is_safetensors(weights.paths),
        weights_only=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        local_files_only=True,
        trust_remote_code=False,
    )
    # transformers fills what is missing or does not fit with random numbers and goes on.
    unfit = [*loading["missing_keys"], *(name for name, *_ in loading["mismatched_keys"])]
    if unfit:
        raise ValueError(f"{len(unfit)} tensors are missing or do not fit, such as {unfit[0]}")
    processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
        folder, local_files_only=True, trust_remote_code=False
    )
    return model.eval(), processor


def token_maps(
    states: "Sequence[torch.Tensor]",
    *,
    prefix: int,
    norm: "Callable[[torch.Tensor], torch.Tensor] | None" = None,
) -> "tuple[torch.Tensor, ...]":
    """The levels of a network's hidden states, as maps; () where they are no square grids.

    Args:
        states: after the patch embedding and after each block: ``(n, prefix + t, c)`` of a
            transformer, ``(n, c, gh, gw)`` of a pyramid.
        prefix: tokens before the patches.
        norm: the transformer's last layer norm; its levels pass through it, as DINOv2's authors
            read theirs (``get_intermediate_layers(norm=True)``): a few channels of the residual
            stream are so large that nothing else would count beside them.
    """
    chosen = [states[1:][index] for index in level_indices(len(states) - 1)]
    if all(state.ndim == 4 for state in chosen):
        return tuple(state.permute(0, 2, 3, 1) for state in chosen)
    grids = [square_grid(state.shape[1] - prefix) for state in chosen]
    patches = [state[:, prefix:] if norm is None else norm(state[:, prefix:]) for state in chosen]
    return tuple(
        state.reshape(len(state), *grid, -1)
        for state, grid in zip(patches, grids, strict=True)
        if grid is not None
    )


def resizing(processor: Any) -> Callable[[Image], Image]:
    """The processor's own steps before rescaling; they stay in uint8."""

    def resize_and_crop(image: Image) -> Image:
        pixels = processor(
            np.require(image, requirements=["C", "W"]),
            do_rescale=False,
            do_normalize=False,
            input_data_format="channels_last",
            return_tensors="np",
        )["pixel_values"][0]
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))

    return resize_and_crop


def mean_and_std(processor: Any) -> "tuple[torch.Tensor, torch.Tensor]":
    """The processor's normalisation, in grey levels: ``(3,) float32`` each."""
    import torch

    level = 1 / processor.rescale_factor if processor.do_rescale else 1.0
    mean, std = [0.0] * 3, [1.0] * 3
    if processor.do_normalize:
        mean, std = processor.image_mean, processor.image_std
    return torch.tensor([m * level for m in mean]), torch.tensor([s * level for s in std])
