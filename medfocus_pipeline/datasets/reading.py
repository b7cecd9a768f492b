"""How a data set is read where neither its folders nor its card say it."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from medfocus_pipeline.config import Frozen
from medfocus_pipeline.places import place

Place: TypeAlias = Annotated[Path, AfterValidator(place)]
"""A folder or file, which may be in an object store."""

Column: TypeAlias = Literal["path", "label", "split", "group", "domain"]
"""What a CSV's line may say of an image."""


class Reading(Frozen):
    """What a command line says of a data set's source.

    Attributes:
        columns: of a CSV, what they are called there; they come before the card's.
        images: folder that a CSV's paths are relative to; None is the CSV's own.
        keep_masks: pictures that look like annotation masks are images; None is as the card says.
    """

    columns: dict[Column, str] = Field(default_factory=dict)
    images: Place | None = None
    keep_masks: bool | None = None


AS_FOUND = Reading()
"""Nothing is said: card, names and content decide."""
