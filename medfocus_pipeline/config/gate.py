"""The gate: one-class methods, which learn from medical images alone, and what zero-shot reads."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator

from medfocus_pipeline.config.base import Frozen
from medfocus_pipeline.config.heads import LinearConfig
from medfocus_pipeline.config.probe import FeatureParts
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

Phrases = tuple[Annotated[str, Field(min_length=1)], ...]

_MEDICAL: dict[str, Phrases] = {
    "X-ray": ("an X-ray", "a chest X-ray", "an X-ray of bones", "a mammogram"),
    "CT": ("a CT scan", "a CT slice of the chest", "a CT slice of the abdomen"),
    "MRI": ("an MRI scan", "a brain MRI slice", "an MRI scan of a joint"),
    "ultrasound": ("an ultrasound image", "a breast ultrasound", "an echocardiogram"),
    "fundus": ("a fundus photograph of the retina", "an image of the back of the eye"),
    "histology": ("a histology slide", "a microscope image of stained tissue"),
    "skin": ("a dermoscopic image of a skin lesion", "a close-up of a mole on the skin"),
    "endoscopy": ("an endoscopic image", "a colonoscopy frame showing a polyp"),
}
_OTHER: dict[str, Phrases] = {
    "people": ("a person", "a portrait", "a group of people", "a selfie"),
    "animals": ("an animal", "a dog", "a bird"),
    "scenes": ("a landscape", "a street", "a building", "a room", "the sky"),
    "things": ("an object", "a car", "food on a plate", "a plant", "furniture"),
    "documents": ("a scanned document", "a page of text", "a filled form", "a receipt"),
    "screenshots": ("a screenshot", "a website", "a chart", "a presentation slide"),
    "drawings": ("a drawing", "a logo", "a cartoon", "an abstract pattern"),
}


class GatePrompts(Frozen):
    """What zero-shot tells medical images from others by.

    Attributes:
        medical: modality -> its phrases; the modality that an image most looks like is one of
            these.
        other: kind -> its phrases.
        templates: with one ``{}`` for a phrase; a phrase's text is the mean over them.
        pooling: how a side's phrases become one number.
    """

    medical: dict[str, Phrases] = Field(default_factory=_MEDICAL.copy, min_length=1)
    other: dict[str, Phrases] = Field(default_factory=_OTHER.copy, min_length=1)
    templates: tuple[str, ...] = Field(default=("a photo of {}.", "{}."), min_length=1)
    pooling: Pooling = "best"

    @field_validator("templates")
    @classmethod
    def _one_place(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [text for text in templates if text.count("{}") != 1]
        if wrong:
            raise ValueError(f"expected one {{}} for the phrase, got {wrong[0]!r}")
        return templates

    @field_validator("medical", "other")
    @classmethod
    def _some_phrase(cls, side: dict[str, Phrases]) -> dict[str, Phrases]:
        empty = [name for name, phrases in side.items() if not phrases]
        if empty:
            raise ValueError(f"{empty[0]!r} has no phrase")
        return side

    @property
    def texts(self) -> list[list[str]]:
        """The texts of each phrase, one for every template: the medical phrases first."""
        return [[text.replace("{}", one) for text in self.templates] for one in self.phrases]

    @property
    def phrases(self) -> list[str]:
        """Of both sides, the medical ones first."""
        sides = (self.medical, self.other)
        return [one for side in sides for phrases in side.values() for one in phrases]

    @property
    def groups(self) -> list[str]:
        """The modality or kind of each phrase."""
        sides = (self.medical, self.other)
        return [name for side in sides for name, phrases in side.items() for _ in phrases]

    @property
    def medical_phrases(self) -> int:
        """How many of the phrases are medical."""
        return sum(map(len, self.medical.values()))


class GateConfig(Frozen):
    """The table of ``medfocus gate``.

    Attributes:
        pooling: of zero-shot, a line each; the card's own comes first.
        one_class: methods that learn from medical images alone.
        linear: on both sides.
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
    focus: FeatureParts = (FeaturePart("original"),)
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
