"""What the encoders of transformers do alike: find their files, load them, prepare pictures."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.encoders.pooling import level_indices, square_grid
from medfocus_pipeline.types import Image
from medfocus_pipeline.weight_files import CONFIG, pretrained
from medfocus_pipeline.weights import Weights

if TYPE_CHECKING:
    import torch

PREPROCESSING = "preprocessor_config.json|processor_config.json"


def from_pretrained(weights: Weights) -> tuple[Any, Any]:
    """Model and image processor of local files, see `pretrained`."""
    from transformers import AutoImageProcessor, AutoModel

    model = pretrained(AutoModel, weights)
    processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
        weights.paths[CONFIG].parent, local_files_only=True, trust_remote_code=False
    )
    return model, processor


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
