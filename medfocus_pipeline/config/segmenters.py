"""Segmenters: what proposes masks, one configuration each."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, Tag

from medfocus_pipeline.config.base import Frozen
from medfocus_pipeline.config.plugin import OWN, PLUGIN, SegmenterPluginConfig, own_or_plugin
from medfocus_pipeline.types import Precision

Sam2Size = Literal["lite", "tiny", "small", "base_plus", "large", "medsam2"]


class SamFamilyConfig(Frozen):
    """What every SAM is asked.

    Attributes:
        revision: branch, tag or commit on the hub; None is the cached or default one.
        stability_offset: logits by which a mask is made smaller and larger to compare the two.
        min_area, max_area: range of a candidate's share of the image.
        precision: of the autocast.
    """

    name: str
    revision: str | None = None
    stability_offset: float = Field(default=1.0, gt=0)
    min_area: float = Field(default=0.002, ge=0, le=1)
    max_area: float = Field(default=0.9, gt=0, le=1)
    precision: Precision = "bf16"


class SeveralMasksConfig(SamFamilyConfig):
    """A SAM that proposes several masks of one image.

    Attributes:
        duplicate_iou: of two masks that overlap more, the worse one is dropped.
    """

    duplicate_iou: float = Field(default=0.7, gt=0, le=1)


class GridConfig(SeveralMasksConfig):
    """A SAM prompted with single points.

    Attributes:
        points_per_side: of the grid; prompts are what it costs.
        prompting: all points of the grid, or the quarter of them that promises most.
    """

    points_per_side: int = Field(default=16, ge=1, le=64)
    prompting: Literal["adaptive", "grid"] = "adaptive"


class Sam2Config(GridConfig):
    """SAM 2.1 prompted with a grid of points; `lite` is a small one that comes with MedFocus.

    `medsam2` is MedSAM2 (Ma et al. 2025), SAM 2.1 tiny fine-tuned on medical images of 512 pixels.

    Attributes:
        checkpoint: a local checkpoint of that size instead of the hub's weights.
        min_score: least predicted IoU of a kept candidate; None is the size's own limit.
        min_stability: least IoU of the mask with itself at logits +/- `stability_offset`; None
            is the size's own limit.
    """

    name: Literal["sam2"] = "sam2"
    size: Sam2Size = "base_plus"
    checkpoint: Path | None = None
    min_score: float | None = Field(default=None, ge=0, le=1)
    min_stability: float | None = Field(default=None, ge=0, le=1)


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


class SamConfig(GridConfig):
    """The first SAM (Kirillov et al. 2023) of Hugging Face, prompted with a grid of points.

    Attributes:
        model: hub id (``facebook/sam-vit-base``, ``-large``, ``-huge``), or path of a folder that
            `save_pretrained` wrote.
        min_score: least predicted IoU of a kept candidate.
        min_stability: least IoU of the mask with itself at logits +/- `stability_offset`.
    """

    name: Literal["sam"] = "sam"
    model: str = "facebook/sam-vit-base"
    min_score: float = Field(default=0.6, ge=0, le=1)
    min_stability: float = Field(default=0.8, ge=0, le=1)


class MedSamConfig(SeveralMasksConfig):
    """MedSAM (Ma et al. 2024), prompted with boxes, as it was trained to be.

    Attributes:
        model: hub id, or path of a folder that `save_pretrained` wrote.
        box: the image's border, or the box of every candidate that `threshold` finds (and the
            border where it finds none).
        threshold: what finds the boxes.
        resize: bicubic to grey levels, as its authors do it; in the key, since it once was another.
    """

    name: Literal["medsam"] = "medsam"
    model: str = "wanglab/medsam-vit-base"
    box: Literal["border", "threshold"] = "threshold"
    threshold: ThresholdConfig = ThresholdConfig()
    resize: Literal["bicubic"] = "bicubic"


class Sam3Config(SeveralMasksConfig):
    """SAM 3 (Carion et al. 2025), prompted with what the classes are called.

    Attributes:
        model: hub id, or path of a folder that `save_pretrained` wrote.
        phrases: what is looked for; empty is the phrases of the data set's card.
        min_score: a candidate's score is above it; .3 is what transformers takes.
    """

    name: Literal["sam3"] = "sam3"
    model: str = "facebook/sam3"
    phrases: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    min_score: float = Field(default=0.3, ge=0, le=1)


class SamAdapterConfig(SamFamilyConfig):
    """SAM-Adapter (Chen et al. 2023): SAM, taught by `medfocus train-adapter` what to outline.

    Attributes:
        adapter: the safetensors file that the training wrote.
        model: the SAM that it was trained on, a hub id or a folder; None is the hub id that the
            file names.
    """

    name: Literal["sam_adapter"] = "sam_adapter"
    adapter: Path
    model: str | None = None


_OwnSegmenter = Annotated[
    Sam2Config | ThresholdConfig | SamConfig | MedSamConfig | Sam3Config | SamAdapterConfig,
    Field(discriminator="name"),
]
SegmenterConfig = Annotated[
    Annotated[_OwnSegmenter, Tag(OWN)] | Annotated[SegmenterPluginConfig, Tag(PLUGIN)],
    own_or_plugin(SegmenterPluginConfig.group, _OwnSegmenter),
]
