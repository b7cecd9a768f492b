"""Domain adaptation: what is fitted from source domains to a target, one configuration each."""

from typing import Annotated, Literal

from pydantic import Field

from medfocus_pipeline.config.base import Frozen
from medfocus_pipeline.config.heads import LinearConfig, MlpConfig
from medfocus_pipeline.config.probe import FeatureParts
from medfocus_pipeline.types import FeaturePart


class SourceConfig(Frozen):
    """Logistic regression on the source's images, nothing adapted: what others must beat."""

    name: Literal["source"] = "source"
    head: LinearConfig = LinearConfig()


class OracleConfig(Frozen):
    """The same on the target's labelled training images: an upper bound, not a method."""

    name: Literal["oracle"] = "oracle"
    head: LinearConfig = LinearConfig()


class SourceMlpConfig(Frozen):
    """Three layers on the source's images, nothing adapted: what `dann` is without its domains."""

    name: Literal["mlp"] = "mlp"
    head: MlpConfig = MlpConfig()


AdaptationConfig = Annotated[
    SourceConfig | OracleConfig | SourceMlpConfig,
    Field(discriminator="name"),
]


class AdaptConfig(Frozen):
    """From hospital to hospital: methods over pairs of domains and seeds.

    Attributes:
        methods: rows of the matrix.
        seeds: number of seeds, 0 .. seeds - 1.
        fraction: percent of the source's training images that a seed draws.
        focus: the parts of the features, such as ``original`` or ``original.levels``.
    """

    methods: tuple[AdaptationConfig, ...] = Field(
        default=(SourceConfig(), SourceMlpConfig(), OracleConfig()),
        min_length=1,
    )
    seeds: int = Field(default=5, ge=1, le=1_000)
    fraction: float = Field(default=80.0, gt=0, le=100)
    focus: FeatureParts = (FeaturePart("original"),)
