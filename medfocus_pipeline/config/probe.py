"""Stage two: rows of heads and focus modes, over fractions and seeds."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from medfocus_pipeline.config.base import Frozen
from medfocus_pipeline.config.heads import HeadConfig, LinearConfig
from medfocus_pipeline.types import FeaturePart, join_parts


def parse_parts(values: Any) -> Any:
    """Parts of features from how they are written.

    An old ``roi_pooled`` without its focus mode is that of the part before it.

    Raises:
        ValueError: one is none.
    """
    if not isinstance(values, (list, tuple)):
        return values
    parts: list[Any] = []
    for value in values:
        before = parts[-1].focus if parts and isinstance(parts[-1], FeaturePart) else None
        if value == "roi_pooled" and before not in {None, "original"}:
            parts.append(FeaturePart(before, "roi_pooled"))
        else:
            parts.append(FeaturePart.parse(value) if isinstance(value, str) else value)
    return tuple(parts)


def _written(parts: tuple[FeaturePart, ...]) -> list[str]:
    return [str(part) for part in parts]


FeatureParts = Annotated[
    tuple[FeaturePart, ...],
    Field(min_length=1),
    BeforeValidator(parse_parts),
    PlainSerializer(_written, return_type=list[str]),
]
"""In a configuration: written as strings, such as ``[original.levels, original.roi_levels]``."""


class ProbeRow(Frozen):
    """One line of the results table: a head on one part of the features, or on several joined.

    Attributes:
        focus: the parts, such as ``segmented`` or ``original.roi_levels``.
    """

    head: HeadConfig = LinearConfig()
    focus: FeatureParts = (FeaturePart("segmented"),)

    @property
    def parts(self) -> str:
        """``original.levels+original.roi_levels``."""
        return join_parts(self.focus)


Fractions = tuple[Annotated[float, Field(gt=0, le=100)], ...]


class Budgets(Frozen):
    """Of which subsets of the training images something learns.

    Attributes:
        fractions: percent of the training images, nested.
        shots: images a class, nested; a class with fewer gives all of them.
        seeds: number of seeds, 0 .. seeds - 1.
    """

    fractions: Fractions = Field(default=(5.0, 10.0, 20.0, 50.0, 100.0), max_length=100)
    shots: tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...] = Field(default=(), max_length=100)
    seeds: int = Field(default=10, ge=1, le=1_000)

    @model_validator(mode="after")
    def _some_budget(self) -> Self:
        if not self.fractions and not self.shots:
            raise ValueError("expected at least one of fractions and shots, got neither")
        return self


class ProbeConfig(Budgets):
    """Stage two: heads over fractions (or shots) and seeds.

    Attributes:
        rows: of the table.
        split_seed: of the stratified test split where a data set has no official one.
        test_share: share of the images in that split; None is the card's, or 0.3.
    """

    rows: tuple[ProbeRow, ...] = Field(default=(ProbeRow(),), min_length=1)
    split_seed: int = Field(default=0, ge=0, le=2**32 - 1)
    test_share: float | None = Field(default=None, gt=0, lt=1)
