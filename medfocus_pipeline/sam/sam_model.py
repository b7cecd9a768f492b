"""The first SAM (Kirillov et al. 2023) as Hugging Face has it: its files, loading, prompting.

MedSAM is the same network with other weights, SAM-Adapter the same with layers between.
"""

from typing import TYPE_CHECKING, Any

from medfocus_pipeline.tensors import FORMATS
from medfocus_pipeline.weight_files import CONFIG, loading, model_type, pretrained
from medfocus_pipeline.weights import FileHashes, Weights, find_files

if TYPE_CHECKING:
    from torch import Tensor

FILES = (CONFIG, FORMATS)

PACE = {"cpu": 1, "mps": 2, "cuda": 8}
"""Images encoded together, measured on a CPU, a guess elsewhere."""

TOKENS = {"cpu": 2**14, "mps": 2**16, "cuda": 2**18}
"""Image tokens decoded together: those of one image times the prompts."""


def find_sam(
    model: str, revision: str | None, hashes: FileHashes, *, download: bool
) -> Weights | None:
    """The files of a hub model or of a local folder; see `hub_weights`.

    Raises:
        WeightsError: the folder lacks a file, or the hub's files cannot be had.
    """
    return find_files(model, FILES, revision=revision, hashes=hashes, download=download)


def load_sam(weights: Weights) -> Any:
    """A `SamModel` in evaluation mode on the CPU, from local files alone.

    Args:
        weights: from `find_sam`, other files may be among them.

    Raises:
        WeightsError: the files are not a SAM of Hugging Face, or are corrupt.
    """
    with loading(weights, "a SAM of Hugging Face"):
        from transformers import SamModel

        model_type(weights.paths[CONFIG], ("sam",))
        return pretrained(SamModel, weights)


def image_size(model: Any) -> int:
    """Side of the square image that a `SamModel` takes, in pixels."""
    return int(model.config.vision_config.image_size)


def mask_side(model: Any) -> int:
    """Side of a `SamModel`'s masks, in cells: a quarter of the image size, for patches of 16."""
    return 4 * (image_size(model) // int(model.config.vision_config.patch_size))


def encode(model: Any, pixels: "Tensor") -> "Tensor":
    """Image embeddings ``(n, c, g, g)`` of ``(n, 3, s, s)``."""
    embeddings: Tensor = model.vision_encoder(pixels).last_hidden_state
    return embeddings


def decode(
    model: Any,
    embeddings: "Tensor",
    *,
    points: "Tensor | None" = None,
    boxes: "Tensor | None" = None,
    several: bool,
) -> "tuple[Tensor, Tensor]":
    """Masks for prompts, or without any.

    Args:
        embeddings: ``(n, c, g, g)``; of one image where there are prompts.
        points: ``(p, 2)``, prompts of one point inside each, XY in pixels of the model's image.
        boxes: ``(p, 4)``, prompts of one box each, XYXY in the same pixels.
        several: three masks a prompt (of a part, a whole and something between), not one.

    Returns:
        Logits ``(p, k, m, m)`` and predicted IoU ``(p, k)``, both float32, the latter from a linear
        layer and so not quite in [0, 1]; p is n without prompts, k is 1 or 3, m is `mask_side`.
    """
    import torch

    labels = None if points is None else torch.ones(1, len(points), 1, device=points.device)
    sparse, dense = model.prompt_encoder(
        None if points is None else points[None, :, None],
        labels,
        None if boxes is None else boxes[None],
        None,
    )
    where = model.get_image_wide_positional_embeddings().expand(len(embeddings), -1, -1, -1)
    logits, scores = model.mask_decoder(
        image_embeddings=embeddings,
        image_positional_embeddings=where,
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=several,
    )
    return logits.flatten(0, 1).float(), scores.flatten(0, 1).float()
