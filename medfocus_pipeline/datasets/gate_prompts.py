"""The phrases that zero-shot tells medical images from others by; a card may have its own."""

from typing import Annotated

from pydantic import Field, field_validator

from medfocus_pipeline.config import Frozen, Pooling

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
