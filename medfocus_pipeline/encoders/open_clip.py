"""Dual encoders of the package open_clip_torch: BiomedCLIP, LAION's CLIPs and whatever else.

A model is a repository of the hub, or a folder, with an ``open_clip_config.json``. Its text tower
may be one of transformers, named there as another repository: of that, the configuration (and the
tokenizer, if the model brings none) is fetched too, so that nothing is missing without a network.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medfocus_pipeline.config import OpenClipConfig, Runtime
from medfocus_pipeline.devices import resolve_device
from medfocus_pipeline.encoders.image_model import Maps, image_model, in_grey_levels
from medfocus_pipeline.encoders.pooling import level_indices
from medfocus_pipeline.encoders.tower import DualTower
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.types import Image, ModelIdentity
from medfocus_pipeline.weight_files import loading
from medfocus_pipeline.weights import FileHashes, Weights, find_files, local_folder

if TYPE_CHECKING:
    import torch

    from medfocus_pipeline.encoders.image_model import Forward

_CONFIG = "open_clip_config.json"
_TENSORS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
"""In the package's own order of preference."""

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")
_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")


def find_open_clip(config: OpenClipConfig, hashes: FileHashes, *, download: bool) -> Weights | None:
    """The model's own files, and those of the text tower that its configuration names.

    A folder may hold the latter in a subfolder named like that repository's last part; else they
    come from the hub's cache like any other.

    Raises:
        WeightsError: a file is missing or cannot be had, or the configuration is damaged.
    """
    find = partial(find_files, hashes=hashes, download=download)
    own = find(
        config.model,
        (_CONFIG, "|".join(_TENSORS)),
        optional=(*_VOCABULARIES, *_BESIDE),
        revision=config.revision,
    )
    if own is None:
        return None
    folder = local_folder(config.model)
    paths, digests = dict(own.paths), dict(own.identity.files)
    needs = _needs(_model_config(own.paths[_CONFIG])["text_cfg"], own)
    for repo, (needed, optional) in needs.items():
        inside = folder / repo.rpartition("/")[2] if folder else None
        place = str(inside.resolve()) if inside and inside.is_dir() else repo
        found = find(place, needed, optional=optional, revision=None)
        if found is None:
            return None
        paths |= {f"{repo}/{name}": path for name, path in found.paths.items()}
        digests |= {f"{repo}/{name}": digest for name, digest in found.identity.files.items()}
    return Weights(ModelIdentity(own.identity.id, own.identity.revision, digests), paths)


def load_open_clip(config: OpenClipConfig, weights: Weights, runtime: Runtime) -> DualTower:
    """Build the model from local files alone.

    Tokens are the last patch tokens after the final norm, projected into the joint space like
    the pooled feature. A tower that pools by attention or convolves has none.

    Raises:
        WeightsError: the files are of no model of open_clip_torch, or are corrupt.
    """
    with loading(weights, "a model of open_clip_torch"):
        return _build(config, weights, runtime)


def _needs(text: dict[str, Any], own: Weights) -> dict[str, tuple[list[str], list[str]]]:
    """Repository -> files of it that the text tower needs and may have, beside the model's own."""
    needs: dict[str, tuple[list[str], list[str]]] = {}
    if tower := text.get("hf_model_name"):
        needs[tower] = (["config.json"], [])
    tokenizer = text.get("hf_tokenizer_name")
    if tokenizer and not own.paths.keys() & set(_VOCABULARIES):
        needed, optional = needs.setdefault(tokenizer, ([], []))
        needed.append("|".join(_VOCABULARIES))
        # The type of the tokenizer is in one of these two.
        optional += [*_BESIDE, "config.json"]
    return needs


def _model_config(path: Path) -> dict[str, Any]:
    """The architecture, ``model_cfg``, of an ``open_clip_config.json``.

    Raises:
        WeightsError: the file is none.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        if isinstance(found["text_cfg"], dict) and isinstance(found["vision_cfg"], dict):
            return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path} is no configuration of open_clip_torch: {type(error).__name__}: {error}; "
            "delete it and pull the model again."
        ) from error
    raise WeightsError(f"{path} describes no image tower and text tower; name another model.")


def _build(config: OpenClipConfig, weights: Weights, runtime: Runtime) -> DualTower:
    import torch

    device = resolve_device(runtime.device)
    model, preprocess = _model(weights)
    model.to(device)
    tokenise = _tokenizer(weights)
    resize_and_crop, normalise = _resize_and_crop(preprocess)

    def text_features(texts: list[str]) -> torch.Tensor:
        features: torch.Tensor = model.encode_text(tokenise(texts).to(device))
        return features

    image = image_model(
        resize_and_crop,
        in_grey_levels(normalise.mean, normalise.std),
        _image_forward(model),
        model.visual,
        precision=config.precision,
        runtime=runtime,
    )
    return DualTower(
        image,
        temperature=float(torch.exp(-model.logit_scale.detach().squeeze())),
        text_features=text_features,
    )


def _model(weights: Weights) -> tuple[Any, Any]:
    """The model in evaluation mode on the CPU, and its evaluation transform.

    `open_clip.create_model` would do the same, but for the text tower's configuration, which it
    asks the hub for, also where the model is a folder.
    """
    from open_clip import CLIP, CustomTextCLIP, load_checkpoint
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    described = json.loads(weights.paths[_CONFIG].read_text(encoding="utf-8"))
    config = deepcopy(_model_config(weights.paths[_CONFIG]))
    if "multimodal_cfg" in config:
        raise ValueError("it is a CoCa, which is no dual encoder alone")
    text, vision = config["text_cfg"], config["vision_cfg"]
    custom = config.pop("custom_text", False)
    if tower := text.get("hf_model_name"):
        folder = weights.paths[f"{tower}/config.json"].parent
        text |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
        custom = True
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    model: Any = (CustomTextCLIP if custom else CLIP)(**config)
    tensors = next(name for name in _TENSORS if name in weights.paths)
    load_checkpoint(model, str(weights.paths[tensors]), strict=True, weights_only=True)
    settings = merge_preprocess_dict({}, described.get("preprocess_cfg", {}))
    settings["size"] = model.visual.image_size
    return model.eval(), image_transform_v2(PreprocessCfg(**settings), is_train=False)


def _tokenizer(weights: Weights) -> Callable[[list[str]], "torch.Tensor"]:
    """The model's own tokenizer if it brings one, as of a folder the package takes it."""
    from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

    text = _model_config(weights.paths[_CONFIG])["text_cfg"]
    length = text.get("context_length", DEFAULT_CONTEXT_LENGTH)
    settings = text.get("tokenizer_kwargs", {})
    name = text.get("hf_tokenizer_name")
    tokenizer: Callable[[list[str]], torch.Tensor]
    if not name:
        tokenizer = SimpleTokenizer(context_length=length, **settings)
        return tokenizer
    places = [weights.paths.get(file) for file in _VOCABULARIES]
    places += [weights.paths.get(f"{name}/{file}") for file in _VOCABULARIES]
    folder = next(path for path in places if path is not None).parent
    tokenizer = HFTokenizer(
        str(folder),
        context_length=length,
        tokenizer_mode=text.get("tokenizer_mode"),
        local_files_only=True,
        **settings,
    )
    return tokenizer


def _resize_and_crop(preprocess: Any) -> tuple[Callable[[Image], Image], Any]:
    """The transform's steps on a picture of Pillow, and its normalisation."""
    from PIL import Image as Pillow
    from torchvision.transforms import Normalize, ToTensor

    steps = preprocess.transforms
    last = next(index for index, step in enumerate(steps) if isinstance(step, ToTensor))
    normalise = next(step for step in steps[last:] if isinstance(step, Normalize))

    def resize_and_crop(image: Image) -> Image:
        picture = Pillow.fromarray(image)
        for step in steps[:last]:
            picture = step(picture)
        return np.array(picture)

    return resize_and_crop, normalise


def _image_forward(model: Any) -> "Forward":
    """Projected image features, patch tokens and levels; the tower says which it has."""
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    visual = model.visual

    def plain(pixels: "torch.Tensor") -> Maps:
        return Maps(model.encode_image(pixels), None)

    def timm(pixels: "torch.Tensor") -> Maps:
        wanted = list(level_indices(len(visual.trunk.feature_info)))
        features, levels = visual.trunk.forward_intermediates(pixels, indices=wanted, norm=True)
        tokens = features[:, visual.trunk.num_prefix_tokens :]
        pooled = visual.head(visual.trunk.forward_head(features))
        maps = tuple(level.permute(0, 2, 3, 1) for level in levels)
        return Maps(pooled, visual.head(tokens), maps)

    def own(pixels: "torch.Tensor") -> Maps:
        blocks = visual.transformer.resblocks
        wanted = list(level_indices(len(blocks)))
        last, states = visual.transformer.forward_intermediates(
            visual._embeds(pixels), indices=wanted
        )
        pooled, tokens = visual._pool(last)
        if visual.proj is not None:
            pooled, tokens = pooled @ visual.proj, tokens @ visual.proj
        maps = tuple(
            visual.ln_post(state[:, 1:]).unflatten(1, visual.grid_size) for state in states
        )
        return Maps(pooled, tokens, maps)

    if isinstance(visual, TimmModel):
        pool = getattr(visual.trunk, "global_pool", "")
        return timm if pool == "token" else plain
    simple = isinstance(visual, VisionTransformer) and visual.attn_pool is None
    if simple and visual.pool_type in {"tok", "avg"} and not visual.final_ln_after_pool:
        return own
    return plain
