"""lite-clip, a small dual encoder: EfficientNet-Lite0 and a text transformer that come along.

The image tower is the frozen network with its ImageNet weights, the text tower a small
`CLIPTextModelWithProjection`; a projection of the images and the text tower were trained on
phantoms and their captions (`training/lite_clip.py`). A projection is linear, so texts can take it
over: ``(W f) . t = f . (W^T t)``. The text tower's own projection has it in it, and an image's
embedding is the network's feature, whole: no head on it loses anything.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfocus_pipeline.config import EfficientNetLiteConfig, LiteClipConfig, Runtime
from medfocus_pipeline.efficientnet import FILE as NETWORK
from medfocus_pipeline.encoders.clip import ClipEncoder
from medfocus_pipeline.encoders.efficientnet_lite import (
    find_efficientnet_lite,
    load_efficientnet_lite,
)
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.types import JSON, ModelIdentity
from medfocus_pipeline.weight_files import loading
from medfocus_pipeline.weights import FileHashes, Weights, folder_weights

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, TENSORS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
"""Files of a lite-clip folder: sizes of the text tower; its tensors and the temperature; words."""

SHIPPED = Path(__file__).parent / "lite_clip_weights"
"""The folder that comes with MedFocus."""

SHA256 = {
    CONFIG: "47c6b58ba75ccd70d5fd6feb8f5fc5d21d4f584c299676e791cbc761ccf33295",
    TENSORS: "f55786808d434b94b472aad4b7877238d8169c9ef4e9700a70a5fbeed0f054ca",
    TOKENIZER: "b3c30e311d1dc3352004d59cad93de9b43a2215689b850fa641218b52e17199b",
}
"""Of the files in `SHIPPED`."""

TEMPERATURE = "temperature"
"""Name of the tensor that is not the text tower's."""


def lite_clip_id(config: LiteClipConfig) -> str:
    """``lite-clip``, or the name of a local folder."""
    return config.name if config.checkpoint is None else _folder(config).resolve().name


def find_lite_clip(config: LiteClipConfig, hashes: FileHashes, *, download: bool) -> Weights:
    """The files that come along, or those of a local folder, and the network's.

    Raises:
        WeightsError: a file is missing, or not the one that MedFocus was released with.
    """
    network = find_efficientnet_lite(EfficientNetLiteConfig(), hashes, download=download)
    own = folder_weights(_folder(config), (CONFIG, TENSORS, TOKENIZER), hashes=hashes)
    if config.checkpoint is None and own.identity.files != SHA256:
        raise WeightsError(
            f"The weights of lite-clip in {SHIPPED} are not those that MedFocus comes with; "
            "install it again, or name their folder with --checkpoint if you trained your own."
        )
    files = network.identity.files | own.identity.files
    return Weights(ModelIdentity(lite_clip_id(config), None, files), network.paths | own.paths)


def load_lite_clip(config: LiteClipConfig, weights: Weights, runtime: Runtime) -> ClipEncoder:
    """Build both towers from local files alone.

    The text tower is a `CLIPTextModelWithProjection`. `text_features` runs with gradients unless
    they are switched off, so that a head can learn what it feeds to the tower.

    Raises:
        WeightsError: the files are corrupt or of another model.
    """
    with loading(weights, "lite-clip"):
        return _build(config, weights, runtime)


def make_text_tower(sizes: JSON) -> Any:
    """A `CLIPTextModelWithProjection` with random weights, in evaluation mode.

    Args:
        sizes: arguments of `CLIPTextConfig`; whatever they leave out is that class's default.
    """
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    tower: Any = CLIPTextModelWithProjection(CLIPTextConfig(**sizes))
    return tower.eval()


def open_tokenizer(path: Path, *, length: int) -> Any:
    """The tokenizer of a ``tokenizer.json``: lower case, a start and an end around each text.

    Args:
        path: of the file.
        length: tokens that are left of a longer text, start and end among them.

    Raises:
        ValueError: the file is no tokenizer.
    """
    from transformers import PreTrainedTokenizerFast

    described = json.loads(path.read_text(encoding="utf-8"))
    if "model" not in described:  # the library's own exception has no type
        raise ValueError(f"{path.name} has no model")
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(path),
        model_max_length=length,
        pad_token="<pad>",  # noqa: S106
        bos_token="<s>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
    )


def _folder(config: LiteClipConfig) -> Path:
    return SHIPPED if config.checkpoint is None else config.checkpoint.expanduser()


def _build(config: LiteClipConfig, weights: Weights, runtime: Runtime) -> ClipEncoder:
    from safetensors.torch import load_file

    network = Weights(weights.identity, {NETWORK: weights.paths[NETWORK]})
    tower = load_efficientnet_lite(
        EfficientNetLiteConfig(precision=config.precision), network, runtime
    )
    device = tower.device
    text_tower = make_text_tower(json.loads(weights.paths[CONFIG].read_text(encoding="utf-8")))
    if text_tower.config.projection_dim != tower.dim:
        raise ValueError(f"its texts have {text_tower.config.projection_dim} dimensions")
    tensors = {name: t.float() for name, t in load_file(weights.paths[TENSORS]).items()}
    temperature = float(tensors.pop(TEMPERATURE))
    text_tower.load_state_dict(tensors)
    text_tower.to(device)
    tokenizer = open_tokenizer(
        weights.paths[TOKENIZER], length=text_tower.config.max_position_embeddings
    )

    def text_features(texts: list[str]) -> "Tensor":
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(device)
        features: Tensor = text_tower(tokens.input_ids, tokens.attention_mask).text_embeds
        return features

    return ClipEncoder(
        tower.model,
        temperature=temperature,
        text_features=text_features,
        text_tower=text_tower,
        tokenizer=tokenizer,
    )
