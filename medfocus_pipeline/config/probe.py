"""Stage two: rows of heads and focus modes, over fractions and seeds."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from medfocus_pipeline.config.base import Frozen
from medfocus_pipeline.config.heads import HeadConfig, LinearConfig
from medfocus_pipeline.types import FeaturePart


class ProbeRow(Frozen):
    """One line of the results table: a head on one focus mode, or on several joined.

    Attributes:
        focus: focus modes, and `roi_pooled` after one that has a region.
    """

    head: HeadConfig = LinearConfig()
    focus: tuple[FeaturePart, ...] = Field(default=("segmented",), min_length=1)

    @field_validator("focus")
    @classmethod
    def _pooled_in_a_region(cls, focus: tuple[str, ...]) -> tuple[str, ...]:
        for before, part in zip(("", *focus), focus, strict=False):
            if part == "roi_pooled" and before in {"", "original", "roi_pooled"}:
                raise ValueError(
                    "roi_pooled follows a focus mode with a region, e.g. segmented+roi_pooled"
                )
        return focus


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
    fractions: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        default=(5.0, 10.0, 20.0, 50.0, 100.0), max_length=100
    )
    shots: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] = Field(default=(), max_length=100)
    seeds: int = Field(default=10, ge=1, le=1_000)
    split_seed: int = Field(default=0, ge=0, le=2**32 - 1)
    test_share: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _some_budget(self) -> "ProbeConfig":
        if not self.fractions and not self.shots:
            raise ValueError("expected at least one of fractions and shots, got neither")
        return self
