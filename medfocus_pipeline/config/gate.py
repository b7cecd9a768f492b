"""The gate: one-class methods, which learn from medical images alone, and the table."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from medfocus_pipeline.config.base import Frozen
from medfocus_pipeline.config.encoders import EfficientNetLiteConfig, EncoderConfig, TimmConfig
from medfocus_pipeline.config.heads import LinearConfig
from medfocus_pipeline.config.probe import FeatureParts
from medfocus_pipeline.config.tuning import FinetuneConfig
from medfocus_pipeline.types import FeaturePart

Share = Annotated[float, Field(gt=0, lt=1)]
Width = Annotated[int, Field(ge=1, le=16_384)]


class OneClassSvmConfig(Frozen):
    """One-class SVM with a Gaussian kernel (Schoelkopf et al. 2001), fitted by scikit-learn.

    Attributes:
        nu: upper bound of the share of training images outside, lower bound of the share of
            support vectors.
        gamma: of the kernel exp(-gamma |x - y|^2); None is scikit-learn's ``scale``.
    """

    name: Literal["one_class_svm"] = "one_class_svm"
    nu: Share = 0.1
    gamma: float | None = Field(default=None, gt=0)


class DeepSvddConfig(Frozen):
    """Deep SVDD (Ruff et al. 2018): a network that brings the images close to one point.

    Attributes:
        boundary: `one_class` has no radius, `soft` leaves a share `nu` outside of one.
        widths: of the layers; the last is the dimension of the point.
        warm_up: epochs of `soft` before the radius is first taken from the distances.
        epochs, learning_rate, batch_size: of Adam.
        weight_decay: lambda of the objective.
    """

    name: Literal["deep_svdd"] = "deep_svdd"
    boundary: Literal["one_class", "soft"] = "one_class"
    nu: Share = 0.1
    widths: tuple[Width, ...] = Field(default=(64, 32), min_length=1)
    warm_up: int = Field(default=10, ge=0, le=10_000)
    epochs: int = Field(default=50, ge=1, le=10_000)
    learning_rate: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=128, ge=1, le=65_536)
    weight_decay: float = Field(default=1e-6, ge=0)


class OcNnConfig(Frozen):
    """OC-NN (Chalapathy et al. 2018): a hidden layer trained by the one-class SVM's objective.

    Attributes:
        nu: of the objective, and the quantile of the scores that r is.
        width: of the hidden layer.
        epochs, learning_rate, batch_size: of Adam; r is taken anew after each epoch.
    """

    name: Literal["oc_nn"] = "oc_nn"
    nu: Share = 0.1
    width: Width = 32
    epochs: int = Field(default=50, ge=1, le=10_000)
    learning_rate: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=128, ge=1, le=65_536)


class MahalanobisConfig(Frozen):
    """Mahalanobis distance to the mean, the covariance shrunk (Ledoit and Wolf 2004)."""

    name: Literal["mahalanobis"] = "mahalanobis"


class NeighboursConfig(Frozen):
    """Distance to the k-th nearest training image (Sun et al. 2022).

    Attributes:
        neighbour: k, or one less than the number of images where those are fewer.
        most: training images that are kept at most.
    """

    name: Literal["neighbours"] = "neighbours"
    neighbour: int = Field(default=5, ge=1, le=1_000_000)
    most: int = Field(default=2000, ge=2, le=1_000_000)


OneClassConfig = Annotated[
    OneClassSvmConfig | DeepSvddConfig | OcNnConfig | MahalanobisConfig | NeighboursConfig,
    Field(discriminator="name"),
]

Pooling: TypeAlias = Literal["best", "mean", "sum"]
"""Of a side's phrases: the best one's logit, the mean of the logits, or the logarithm of the sum of
their powers, which adds up the shares of one softmax over all phrases."""


RESNET18 = TimmConfig(model="resnet18.a1_in1k")
EFFICIENTNET_B0 = TimmConfig(model="efficientnet_b0.ra_in1k")
"""The small networks that MediCLIP and ultrasound classifiers are held against."""


class GateConfig(Frozen):
    """The table of ``medfocus gate``.

    Attributes:
        pooling: of zero-shot, a line each; the card's own comes first.
        one_class: methods that learn from medical images alone.
        linear: on both sides.
        networks: fine-tuned on both sides, from these encoders: those that MediCLIP tried, and
            one that needs no hub.
        network: how.
        focus: the parts of the features that all methods but zero-shot see.
        seed: of every draw.
    """

    pooling: tuple[Pooling, ...] = ("best", "mean", "sum")
    one_class: tuple[OneClassConfig, ...] = (
        OneClassSvmConfig(),
        DeepSvddConfig(),
        OcNnConfig(),
        MahalanobisConfig(),
        NeighboursConfig(),
    )
    linear: LinearConfig | None = LinearConfig()
    networks: tuple[EncoderConfig, ...] = (RESNET18, EFFICIENTNET_B0, EfficientNetLiteConfig())
    network: FinetuneConfig = FinetuneConfig()
    focus: FeatureParts = (FeaturePart("original"),)
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
