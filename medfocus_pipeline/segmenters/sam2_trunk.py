"""The trunk of sam2-lite: a frozen EfficientNet-Lite0 in place of SAM 2's Hiera."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfocus_pipeline import efficientnet

if TYPE_CHECKING:
    from torch import Tensor

CHANNELS = (24, 40, 112, 320)
"""Of the feature maps at strides 4, 8, 16 and 32."""

_DEVIATIONS = (10.0, 6.4, 3.7, 1.75)
"""Of the network's own feature maps, over pictures: the neck gets about unit variance."""

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def efficientnet_lite_trunk() -> Any:
    """The trunk with random weights, frozen; `sam2_lite.yaml` names this function.

    Returns:
        A module ``(n, 3, s, s)``, normalised as SAM 2 does, -> feature maps, fine to coarse, of
        `CHANNELS` channels and about unit variance. It has the attribute `channel_list`, coarse
        to fine, which `sam2`'s `ImageEncoder` compares with the neck's.
    """
    import torch
    from torch import nn

    trunk: Any = nn.Sequential()
    trunk.add_module("renormalise", _renormalisation())
    trunk.add_module("network", efficientnet.pyramid())
    trunk.network.register_forward_hook(_scaled)
    trunk.channel_list = list(reversed(CHANNELS))
    return trunk.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def load_trunk(trunk: Any, path: Path) -> None:
    """Puts ImageNet weights into a new `efficientnet_lite_trunk`, and merges its batch norms.

    Args:
        trunk: as it was made.
        path: of `efficientnet.find_weights`.

    Raises:
        KeyError: a tensor of the file has an unknown name, or one is missing.
        RuntimeError: the file's tensors are not the model's, by shape.
    """
    efficientnet.load_pyramid(trunk.network, path)
    efficientnet.merge_batch_norms(trunk.network)
    trunk.requires_grad_(False)


def _renormalisation() -> Any:
    """From SAM 2's normalisation of an image to the network's own, channel by channel."""
    import torch
    from torch import nn

    mean, std = torch.tensor(_MEAN), torch.tensor(_STD)
    layer = nn.Conv2d(3, 3, kernel_size=1, groups=3)
    with torch.no_grad():
        layer.weight.copy_((std / efficientnet.STD).view(3, 1, 1, 1))
        layer.bias.copy_((mean - efficientnet.MEAN) / efficientnet.STD)  # type: ignore[union-attr]
    return layer


def _scaled(network: Any, inputs: Any, levels: "list[Tensor]") -> "list[Tensor]":
    """A forward hook's signature."""
    del network, inputs
    return [level / scale for level, scale in zip(levels, _DEVIATIONS, strict=True)]
