"""lite-clip, a small dual encoder: EfficientNet-Lite0 and a text transformer that come along.

The image tower is the frozen network with its ImageNet weights, the text tower a small
`CLIPTextModelWithProjection`; the projection and the text tower were trained on phantoms and
their captions (`training/lite_clip.py`). Images and texts meet in w dimensions; an embedding
keeps the network's own feature f beside its projection p = W f + b, and a text t has zeros there:

    image: (sqrt(1 - s) f / |f|, sqrt(s) p / |p|)        text: (0, t)

So image embeddings have length 1, no classifier of them misses what f says, and the cosine of
image and text is sqrt(s) times that of p and t, a factor that the temperature takes up.
"""

import json
from dataclasses import dataclass
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
from medfocus_pipeline.weights import FileHashes, Weights, folder_weights, unusable

if TYPE_CHECKING:
    import torch

    from medfocus_pipeline.encoders.tower import Forward

CONFIG, TENSORS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
"""Files of a lite-clip folder: sizes and share; projection, temperature and text tower; words."""

SHIPPED = Path(__file__).parent / "lite_clip_weights"
"""The folder that comes with MedFocus."""

SHA256 = {
    CONFIG: "3e62b624b885ce7b3dc0930b8c1e5223b90d0ba99e66c7cede44250c65a2d1d2",
    TENSORS: "d56e04e3654b7f7c51d9c9fccc2a3fd49b56a01cd0fa489d6c6999fd821e6346",
    TOKENIZER: "b3c30e311d1dc3352004d59cad93de9b43a2215689b850fa641218b52e17199b",
}
"""Of the files in `SHIPPED`."""

TEXT_PREFIX = "text."
"""Before the names of the text tower's tensors."""


@dataclass(frozen=True, slots=True)
class LiteClipEncoder(ClipEncoder):
    """A `ClipEncoder` whose text tower can be taken apart.

    `text_features` runs with gradients unless they are switched off, so that a head can learn
    what it feeds to the tower.

    Attributes:
        text_tower: `CLIPTextModelWithProjection` on the device, float32, in evaluation mode.
        tokenizer: of transformers; pads and cuts to what the tower takes.
    """

    text_tower: Any
    tokenizer: Any


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


def load_lite_clip(config: LiteClipConfig, weights: Weights, runtime: Runtime) -> LiteClipEncoder:
    """Build both towers from local files alone.

    Raises:
        WeightsError: the files are corrupt or of another model.
    """
    import torch
    from safetensors import SafetensorError

    try:
        return _build(config, weights, runtime)
    except torch.OutOfMemoryError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise unusable(weights, "lite-clip", error) from error


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


def joined(
    features: "torch.Tensor", projected: "torch.Tensor", *, share: float
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """How much to scale the network's features and their projections in an embedding.

    Args:
        features: ``(n, d)``, f.
        projected: ``(n, w)``, p.
        share: s, of the projection in the squared length.

    Returns:
        ``sqrt(1 - s) / |f|`` and ``sqrt(s) / |p|``, each ``(n, 1)``.
    """
    tiny = 1e-12
    own = features.norm(dim=-1, keepdim=True).clamp_min(tiny)
    joint = projected.norm(dim=-1, keepdim=True).clamp_min(tiny)
    return (1 - share) ** 0.5 / own, share**0.5 / joint


def _folder(config: LiteClipConfig) -> Path:
    return SHIPPED if config.checkpoint is None else config.checkpoint.expanduser()


def _build(config: LiteClipConfig, weights: Weights, runtime: Runtime) -> LiteClipEncoder:
    import torch
    from safetensors.torch import load_file

    network = Weights(weights.identity, {NETWORK: weights.paths[NETWORK]})
    tower = load_efficientnet_lite(
        EfficientNetLiteConfig(precision=config.precision), network, runtime
    )
    device = tower.mean.device
    described = json.loads(weights.paths[CONFIG].read_text(encoding="utf-8"))
    share = float(described["share"])
    tensors = {name: t.float() for name, t in load_file(weights.paths[TENSORS]).items()}
    text_tower = make_text_tower(described["text"])
    names = [name for name in tensors if name.startswith(TEXT_PREFIX)]
    text_tower.load_state_dict({name.removeprefix(TEXT_PREFIX): tensors[name] for name in names})
    text_tower.to(device)
    tokenizer = open_tokenizer(
        weights.paths[TOKENIZER], length=text_tower.config.max_position_embeddings
    )
    weight, bias = tensors["image.weight"].to(device), tensors["image.bias"].to(device)
    if weight.shape != (text_tower.config.projection_dim, tower.dim):
        raise ValueError(f"its projection has the shape {tuple(weight.shape)}")

    def text_features(texts: list[str]) -> torch.Tensor:
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(device)
        features = text_tower(tokens.input_ids, tokens.attention_mask).text_embeds
        return torch.cat([features.new_zeros(len(features), tower.dim), features], dim=1)

    return LiteClipEncoder(
        resize_and_crop=tower.resize_and_crop,
        forward=_image_forward(tower.forward, weight, bias, share=share),
        mean=tower.mean,
        std=tower.std,
        precision=tower.precision,
        batch_size=tower.batch_size,
        dim=tower.dim + len(weight),
        token_grid=tower.token_grid,
        token_extent=tower.token_extent,
        temperature=float(tensors["temperature"]) * share**0.5,
        text_features=text_features,
        text_tower=text_tower,
        tokenizer=tokenizer,
    )


def _image_forward(
    network: "Forward", weight: "torch.Tensor", bias: "torch.Tensor", *, share: float
) -> "Forward":
    """Image embeddings, and the cells of the feature map mapped alike: their mean is the former."""
    import torch

    def forward(pixels: "torch.Tensor") -> "tuple[torch.Tensor, torch.Tensor | None]":
        features, cells = network(pixels)
        if cells is None:
            raise ValueError("the network gives no feature map")
        features, cells = features.float(), cells.float()
        projected = torch.nn.functional.linear(features, weight, bias)
        own, joint = joined(features, projected, share=share)
        pooled = torch.cat([own * features, joint * projected], dim=1)
        spread = torch.nn.functional.linear(cells, weight, bias)
        tokens = torch.cat([own[:, None] * cells, joint[:, None] * spread], dim=2)
        return pooled, tokens

    return forward
