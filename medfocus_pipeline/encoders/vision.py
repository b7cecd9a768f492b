"""Image encoders of transformers without a text tower: DINOv2, RAD-DINO, DINOv3."""

from typing import TYPE_CHECKING, Any

from medfocus_pipeline.config import Runtime, VisionConfig
from medfocus_pipeline.devices import resolve_device
from medfocus_pipeline.encoders.hugging_face import (
    PREPROCESSING,
    from_pretrained,
    mean_and_std,
    resizing,
    token_maps,
)
from medfocus_pipeline.encoders.image_model import Maps, image_model
from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.tensors import FORMATS
from medfocus_pipeline.weight_files import CONFIG, loading, model_type
from medfocus_pipeline.weights import Weights

if TYPE_CHECKING:
    import torch

    from medfocus_pipeline.encoders.image_model import Forward

FILES = (CONFIG, PREPROCESSING, FORMATS)

_TYPES = ("dinov2", "dinov2_with_registers", "dinov3_vit", "dinov3_convnext")
"""Model types that this module knows: class token first, then registers, then patches."""

_LAST_NORMS = ("layernorm", "norm", "layer_norm")
"""What transformers calls the last layer norm of DINOv2 and of DINOv3's two kinds."""

_BATCH_SIZE = {"cpu": 8, "mps": 32, "cuda": 128}


def load_vision(config: VisionConfig, weights: Weights, runtime: Runtime) -> ImageTower:
    """Build the model from local files alone.

    `pooled` is the class token after the last layer norm (``pooler_output``), which RAD-DINO's
    and DINO's authors classify by; tokens are the patch tokens after the same norm. Register
    tokens are left out.

    Raises:
        WeightsError: the files are of none of these models, or are corrupt.
    """
    with loading(weights, "DINOv2, RAD-DINO or DINOv3"):
        model_type(weights.paths[CONFIG], _TYPES)
        model, processor = from_pretrained(weights)
        model.to(resolve_device(runtime.device))
        image = image_model(
            resizing(processor),
            mean_and_std(processor),
            _forward(model),
            model,
            precision=config.precision,
            runtime=runtime,
            batch_sizes=_BATCH_SIZE,
            patch=getattr(model.config, "patch_size", 1),
        )
    return ImageTower(image)


def _forward(model: Any) -> "Forward":
    first = 1 + getattr(model.config, "num_register_tokens", 0)
    norm = next(getattr(model, name) for name in _LAST_NORMS if hasattr(model, name))

    def forward(pixels: "torch.Tensor") -> Maps:
        output = model(pixel_values=pixels, output_hidden_states=True)
        levels = token_maps(output.hidden_states, prefix=first, norm=norm)
        return Maps(output.pooler_output, output.last_hidden_state[:, first:], levels)

    return forward
