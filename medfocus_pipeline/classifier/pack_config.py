"""What a classifier's folder says of itself: its config.json."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from medfocus_pipeline.config import EncoderConfig, Frozen, HeadConfig, MasksConfig, PluginConfig
from medfocus_pipeline.config.probe import FeatureParts
from medfocus_pipeline.config.tuning import FinetuneConfig
from medfocus_pipeline.gate.saved import GateDescription
from medfocus_pipeline.model_record import Model
from medfocus_pipeline.types import JSON, Fit, RoiRule, View
from medfocus_pipeline.weights import local_folder


class TrainedOn(Frozen):
    """The run, as the results table names it.

    Attributes:
        key: of the run.
        fraction: percent of the training images, or None.
        shots: training images a class, or None.
        images: number of training images.
        test_images: number of test images on which it gave the stored predictions.
    """

    key: str
    fraction: float | None
    shots: int | None
    seed: int
    images: int
    test_images: int


class PackConfig(Frozen):
    """Everything about a classifier but its arrays.

    Attributes:
        version: of this format.
        medfocus: version of the package that wrote it.
        dataset, title: of the data set.
        classes: names of the K classes, in the order of the probabilities.
        phrases: what stands for each class in a prompt.
        masks: None where no part of the features looks at a region.
        fit: how images become the encoder's squares, see `EmbedConfig`.
        parts: of the features, in the order in which they are joined.
        familiar_parts: of the features by which an image is familiar or not, see `novelty`.
        segmenter, encoder_model: whose weights the features were made with.
        head: as it was configured.
        head_kind, head_settings: of the fitted head, see `heads.saved`.
        temperature: of the encoder; None without a text tower.
        tuned: how the encoder was fine-tuned; None if it was not.
        neighbour, threshold: see `novelty`.
        gate: what looked at the data set's images before; None where nothing did.
        tensors_sha256: of the file of tensors.
    """

    format: Literal["medfocus-classifier"] = "medfocus-classifier"
    version: Literal[4] = 4
    medfocus: str
    dataset: str
    title: str
    classes: tuple[str, ...] = Field(min_length=2)
    phrases: tuple[str, ...]
    masks: MasksConfig | None
    roi: RoiRule
    fit: Fit
    parts: FeatureParts
    familiar_parts: FeatureParts
    views: tuple[View, ...] = Field(min_length=1)
    encoder: EncoderConfig
    segmenter: Model | None
    encoder_model: Model
    head: HeadConfig
    head_kind: str
    head_settings: JSON
    temperature: float | None
    tuned: FinetuneConfig | None = None
    neighbour: int = Field(ge=1)
    threshold: float = Field(ge=0)
    run: TrainedOn
    gate: GateDescription | None = None
    tensors_sha256: str = ""

    @property
    def method(self) -> str:
        """What was fitted, in a word or two."""
        return f"{self.head.name} on a fine-tuned network" if self.tuned else self.head.name

    @model_validator(mode="after")
    def _no_code(self) -> "PackConfig":
        segmenter = self.masks.segmenter if self.masks else None
        for config in (self.encoder, self.head, segmenter):
            if isinstance(config, PluginConfig):
                raise ValueError(f"it names the plug-in {config.name}, and a folder has no code")
        return self


def anchored(config: Frozen) -> Any:
    """The same configuration with absolute paths, so that it means the same in every folder."""
    changes: dict[str, object] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Path):
            changes[name] = value.expanduser().resolve()
        elif name == "model" and value and (folder := local_folder(value)):
            changes[name] = str(folder.resolve())
    return config.model_copy(update=changes)
