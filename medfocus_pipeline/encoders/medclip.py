"""MedCLIP-ViT (Wang et al. 2022): a Swin and a ClinicalBERT from its authors' one file.

What it computes is that of the authors' ``medclip/modeling_medclip.py`` and ``dataset.py``
(github.com/RyanWangZf/MedCLIP, 9c3396f). Their package pins a transformers of 2022; it is not
needed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.config import MedClipConfig, Runtime
from medfocus_pipeline.devices import resolve_device
from medfocus_pipeline.encoders.hugging_face import token_maps
from medfocus_pipeline.encoders.image_model import Maps, image_model
from medfocus_pipeline.encoders.tower import DualTower
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.types import Image, ModelIdentity
from medfocus_pipeline.weight_files import loading
from medfocus_pipeline.weights import FileHashes, Weights, hub_weights, local_weights

if TYPE_CHECKING:
    import torch

    State = Mapping[str, torch.Tensor]

_ID = "medclip-vit"
_TENSORS = "pytorch_model.bin"
_BERT = "emilyalsentzer/Bio_ClinicalBERT"
_VOCABULARIES, _TOKENIZER_CONFIG = ("vocab.txt", "tokenizer.json"), "tokenizer_config.json"

_SIDE, _MEAN, _STD = 224, 0.5862785803043838, 0.27950088968644304
_MAX_TOKENS = 77
_HEAD = 64
"""Width of an attention head of every published BERT; no tensor's shape says it."""
_MAX_LOG_SCALE = 4.6052


def medclip_id(config: MedClipConfig) -> str:
    """The one such model."""
    del config  # there are no others
    return _ID


def find_medclip(config: MedClipConfig, hashes: FileHashes, *, download: bool) -> Weights | None:
    """The checkpoint, and the tokenizer beside it or else of the hub's ClinicalBERT.

    Raises:
        WeightsError: there is no checkpoint, or the tokenizer cannot be had.
    """
    if config.checkpoint is None:
        if not download:
            return None
        raise WeightsError(
            f"The weights of {_ID} are on no hub: fetch the file that MedCLIP's authors link to "
            f"(github.com/RyanWangZf/MedCLIP), and name it, or its folder with a {_TENSORS}, as "
            "the checkpoint."
        )
    place = config.checkpoint.expanduser()
    tensors = place / _TENSORS if place.is_dir() else place
    names = [name for name in _VOCABULARIES if (tensors.parent / name).is_file()][:1]
    if names:
        names += [_TOKENIZER_CONFIG] * (tensors.parent / _TOKENIZER_CONFIG).is_file()
        beside = {f"{_BERT}/{name}": tensors.parent / name for name in names}
        return local_weights(_ID, {_TENSORS: tensors, **beside}, hashes=hashes)
    own = local_weights(_ID, {_TENSORS: tensors}, hashes=hashes)
    bert = hub_weights(
        _BERT,
        ["|".join(_VOCABULARIES)],
        optional=[_TOKENIZER_CONFIG],
        revision=None,
        hashes=hashes,
        download=download,
    )
    if bert is None:
        return None
    paths = {f"{_BERT}/{name}": path for name, path in bert.paths.items()}
    files = {f"{_BERT}/{name}": digest for name, digest in bert.identity.files.items()}
    identity = ModelIdentity(_ID, None, {**own.identity.files, **files})
    return Weights(identity, {**own.paths, **paths})


def load_medclip(config: MedClipConfig, weights: Weights, runtime: Runtime) -> DualTower:
    """Build the model from local files alone.

    Tokens are Swin's last cells after its layer norm, projected: their mean is `pooled`.

    Raises:
        ConfigError: the device is not there.
        WeightsError: the file is of another model (MedCLIP-ResNet too), or corrupt.
    """
    with loading(weights, "MedCLIP-ViT"):
        return _build(config, weights, runtime)


def _build(config: MedClipConfig, weights: Weights, runtime: Runtime) -> DualTower:
    import torch

    device = resolve_device(runtime.device)
    state = torch.load(weights.paths[_TENSORS], map_location="cpu", weights_only=True)
    swin = _swin(_part(state, "vision_model.model.")).to(device)
    bert = _bert(_part(state, "text_model.model.")).to(device)
    image_head, text_head = (
        _projection(state[f"{tower}_model.projection_head.weight"]).to(device)
        for tower in ("vision", "text")
    )
    if image_head.out_features != text_head.out_features:
        raise ValueError("its two towers end in different dimensions")
    tokenizer = _tokenizer(weights)

    def forward(pixels: "torch.Tensor") -> Maps:
        output = swin(pixels, output_hidden_states=True)
        pooled, tokens = map(image_head, (output.pooler_output, output.last_hidden_state))
        return Maps(pooled, tokens, token_maps(output.reshaped_hidden_states, prefix=0))

    def text_features(texts: list[str]) -> torch.Tensor:
        # One by one: the authors' mean counts padding, which depends on the batch.
        return torch.cat([text_feature(text) for text in texts])

    def text_feature(text: str) -> torch.Tensor:
        tokens = tokenizer([text], truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
        states = bert(**tokens.to(device), output_hidden_states=True).hidden_states
        chosen = torch.stack([states[1], states[2], states[-1]])
        feature: torch.Tensor = text_head(chosen.mean(dim=(0, 2)))
        return feature

    image = image_model(
        resize_and_crop,
        (torch.full((3,), _MEAN * 255), torch.full((3,), _STD * 255)),
        forward,
        torch.nn.ModuleDict({"swin": swin, "projection": image_head}),
        precision=config.precision,
        runtime=runtime,
    )
    return DualTower(
        image,
        temperature=float(torch.exp(-state["logit_scale"].float().clamp(0, _MAX_LOG_SCALE))),
        text_features=text_features,
    )


def resize_and_crop(image: Image) -> Image:
    """Grey, pasted into the middle of a black square of at least 224, and bicubic to 224."""
    from PIL import Image as Pillow

    grey = Pillow.fromarray(image).convert("L")
    width, height = grey.size
    size = max(_SIDE, width, height)
    square = Pillow.new("L", (size, size), 0)
    square.paste(grey, (int((size - width) / 2), int((size - height) / 2)))
    small = square.resize((_SIDE, _SIDE), Pillow.Resampling.BICUBIC)
    return np.repeat(np.array(small)[..., None], 3, axis=2)


def _projection(weight: "torch.Tensor") -> Any:
    from torch.nn import Linear, Parameter

    layer = Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = Parameter(weight.float())
    return layer


def _part(state: "State", prefix: str) -> dict[str, Any]:
    """The tensors of one tower, float32, under the names that its own model has."""
    # The last two are buffers that a transformers of 2022 saved and today's computes.
    found = {
        name.removeprefix(prefix): tensor.float()
        for name, tensor in state.items()
        if name.startswith(prefix) and not name.endswith(("position_ids", "position_index"))
    }
    if not found:
        raise ValueError(f"it has no {prefix}*")
    return found


def _swin(state: "State") -> Any:
    from transformers import SwinConfig, SwinModel

    def block(stage: int) -> str:
        return f"encoder.layers.{stage}.blocks.0"

    patches = state["embeddings.patch_embeddings.projection.weight"]
    stages = _count(state, "encoder.layers.")
    tables = [
        state[f"{block(stage)}.attention.self.relative_position_bias_table"]
        for stage in range(stages)
    ]
    inner = state[f"{block(0)}.intermediate.dense.weight"]
    config = SwinConfig(
        image_size=_SIDE,
        patch_size=patches.shape[2],
        embed_dim=patches.shape[0],
        depths=[_count(state, f"encoder.layers.{stage}.blocks.") for stage in range(stages)],
        num_heads=[table.shape[1] for table in tables],
        window_size=(round(tables[0].shape[0] ** 0.5) + 1) // 2,
        mlp_ratio=inner.shape[0] / inner.shape[1],
    )
    return _filled(SwinModel, config, state)


def _bert(state: "State") -> Any:
    from transformers import BertConfig, BertModel

    words = state["embeddings.word_embeddings.weight"]
    config = BertConfig(
        vocab_size=words.shape[0],
        hidden_size=words.shape[1],
        num_hidden_layers=_count(state, "encoder.layer."),
        num_attention_heads=words.shape[1] // _HEAD,
        intermediate_size=state["encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=state["embeddings.position_embeddings.weight"].shape[0],
        type_vocab_size=state["embeddings.token_type_embeddings.weight"].shape[0],
    )
    return _filled(BertModel, config, state)


def _count(state: "State", prefix: str) -> int:
    """How many numbered parts there are."""
    return len({n.removeprefix(prefix).split(".")[0] for n in state if n.startswith(prefix)})


def _filled(kind: Any, config: Any, state: "State") -> Any:
    """A model of transformers, which knows its older names, with all its tensors."""
    model, loading = kind.from_pretrained(
        None, config=config, state_dict=dict(state), output_loading_info=True
    )
    wrong = [*loading["missing_keys"], *loading["unexpected_keys"]]
    if wrong:
        raise ValueError(f"{len(wrong)} tensors are missing or too many, such as {wrong[0]}")
    return model.eval()


def _tokenizer(weights: Weights) -> Any:
    from transformers import BertTokenizer

    names = (f"{_BERT}/{name}" for name in _VOCABULARIES)
    folder: Path = next(weights.paths[name] for name in names if name in weights.paths).parent
    return BertTokenizer.from_pretrained(folder, local_files_only=True)
