"""Image encoders of timm: convolutional networks, vision transformers, Swin and others."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.config import Runtime, TimmConfig
from medfocus_pipeline.devices import resolve_device
from medfocus_pipeline.encoders.image_model import Maps, image_model, in_grey_levels
from medfocus_pipeline.encoders.pooling import level_indices, square_grid
from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.types import Image, Precision
from medfocus_pipeline.weight_files import loading
from medfocus_pipeline.weights import FileHashes, Weights, hub_weights, local_weights

if TYPE_CHECKING:
    import torch

    from medfocus_pipeline.encoders.image_model import Forward

_BATCH_SIZE = {"cpu": 32, "mps": 64, "cuda": 256}


def timm_id(config: TimmConfig) -> str:
    """The hub id, or the plain name where the weights are a local file."""
    return f"timm/{config.model}" if config.checkpoint is None else config.model


def find_timm(config: TimmConfig, hashes: FileHashes, *, download: bool) -> Weights | None:
    """A local checkpoint, or the files of the hub repository ``timm/<model>``.

    Raises:
        WeightsError: the checkpoint is missing, the name has no tag (timm alone knows which
            weights it would take, and that changes with its version), or see `hub_weights`.
    """
    if any(mark in config.model for mark in "/:\\"):
        raise WeightsError(
            f"timm model {config.model!r} is not a plain name; write the name alone, as in "
            "resnet50.a1_in1k."
        )
    if config.checkpoint is not None:
        files = {config.checkpoint.name: config.checkpoint.expanduser()}
        return local_weights(timm_id(config), files, hashes=hashes)
    if "." not in config.model:
        raise WeightsError(
            f"timm model {config.model} is named without its tag, which says which of its "
            "weights to take; add it, as in resnet50.a1_in1k, or give a checkpoint."
        )
    return hub_weights(
        timm_id(config),
        ["model.safetensors|pytorch_model.bin"],
        revision=config.revision,
        hashes=hashes,
        download=download,
    )


def load_timm(config: TimmConfig, weights: Weights, runtime: Runtime) -> ImageTower:
    """Build the model from one local file.

    Raises:
        WeightsError: timm has no such model, or the file is of another model or corrupt.
    """
    (path,) = weights.paths.values()
    with loading(weights, f"timm's {config.model}"):
        from timm.data.config import resolve_model_data_config

        model = _create(config.model, str(path))
        data_config = resolve_model_data_config(model)  # type: ignore[no-untyped-call]
        return timm_tower(model, data_config, precision=config.precision, runtime=runtime)


def timm_tower(
    model: Any, data_config: dict[str, Any], *, precision: Precision, runtime: Runtime
) -> ImageTower:
    """An encoder of a timm model in evaluation mode.

    `pooled` is timm's pre-logits feature. Tokens are the cells of the last feature map, or the
    patch tokens without class and register tokens; None where the head projects (MobileNetV3)
    or flattens them (VGG), so that they would not be in the space of `pooled`.

    Args:
        model: in evaluation mode, on the CPU.
        data_config: input_size, interpolation, crop_pct, crop_mode, mean and std (0 .. 1), as
            `timm.data.resolve_model_data_config` gives them.
        precision: of the forward pass.
        runtime: device and compilation.
    """
    import torch

    model.to(resolve_device(runtime.device), memory_format=torch.channels_last)
    image = image_model(
        _resize_and_crop(data_config),
        in_grey_levels(data_config["mean"], data_config["std"]),
        _forward(model),
        model,
        precision=precision,
        runtime=runtime,
        batch_sizes=_BATCH_SIZE,
    )
    return ImageTower(image)


def _create(name: str, path: str) -> Any:
    """The model with a file's weights, loaded strictly, whatever its number of classes."""
    import timm
    from timm.models import get_pretrained_cfg, load_state_dict

    state = load_state_dict(path, device="cpu", weights_only=True)
    pretrained: Any = get_pretrained_cfg(name, allow_unregistered=False)
    classifier = pretrained.classifier or ""
    first = classifier if isinstance(classifier, str) else classifier[0]
    offset = pretrained.label_offset or 0
    rows = len(state.get(f"{first}.weight", ()))
    classes = rows - offset if rows else 0
    # timm loads strictly only if the file and the model have the same number of classes.
    overlay = {
        "state_dict": state,
        "num_classes": classes,
        "label_offset": offset if rows else 0,
    }
    model: Any = timm.create_model(
        name, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay
    )
    model.pretrained_cfg.pop("state_dict")
    return model.eval()


def _resize_and_crop(data_config: dict[str, Any]) -> Callable[[Image], Image]:
    """Timm's evaluation transform, up to the tensor of bytes that its prefetcher normalises."""
    from PIL import Image as Pillow
    from timm.data.transforms_factory import create_transform

    transform = create_transform(**data_config, use_prefetcher=True)

    def resize_and_crop(image: Image) -> Image:
        pixels = transform(Pillow.fromarray(image))
        return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())

    return resize_and_crop


def _forward(model: Any) -> "Forward":
    prefix = getattr(model, "num_prefix_tokens", 0)
    channels_last = getattr(model, "output_fmt", "") == "NHWC"

    wanted = list(level_indices(len(model.feature_info))) if _gives_maps(model) else []

    def forward(pixels: "torch.Tensor") -> Maps:
        levels: list[torch.Tensor] = []
        if wanted:
            features, levels = model.forward_intermediates(pixels, indices=wanted, norm=True)
        else:
            features = model.forward_features(pixels)
        pooled = model.forward_head(features, pre_logits=True)
        dim = pooled.shape[1]
        if features.ndim == 4:
            last = channels_last or features.shape[1] != dim
            tokens = (features if last else features.permute(0, 2, 3, 1)).flatten(1, 2)
        else:
            tokens = features[:, prefix:]
        fits = tokens.shape[2] == dim and square_grid(tokens.shape[1]) is not None
        maps = tuple(level.permute(0, 2, 3, 1) for level in levels)
        return Maps(pooled, tokens if fits else None, maps)

    return forward


def _gives_maps(model: Any) -> bool:
    """Whether timm can give maps from inside the network; it cannot for a few old ones."""
    return hasattr(model, "forward_intermediates") and bool(getattr(model, "feature_info", None))
