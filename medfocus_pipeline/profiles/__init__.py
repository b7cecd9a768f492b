"""Profiles: a named choice of segmenter, ROI rule, focus modes, encoder and heads."""

from importlib import resources

import yaml
from pydantic import Field, ValidationError

from medfocus_pipeline.config import (
    ClipConfig,
    EmbedConfig,
    EncoderConfig,
    Frozen,
    MasksConfig,
    ProbeConfig,
)
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.types import FocusMode, RoiRule, View

DEFAULT = "paper"


class EmbedPlan(Frozen):
    """The embedding stores of a profile: one for each focus mode."""

    encoder: EncoderConfig = ClipConfig()
    roi: RoiRule = "best"
    focus: tuple[FocusMode, ...] = Field(default=("original", "segmented"), min_length=1)
    views: tuple[View, ...] = EmbedConfig().views

    def configs(self) -> list[EmbedConfig]:
        """One configuration for each focus mode, in order."""
        return [
            EmbedConfig(encoder=self.encoder, roi=self.roi, focus=focus, views=self.views)
            for focus in dict.fromkeys(self.focus)
        ]


class Profile(Frozen):
    """What each stage does unless an option says otherwise."""

    masks: MasksConfig = MasksConfig()
    embed: EmbedPlan = EmbedPlan()
    probe: ProbeConfig = ProbeConfig()


def names() -> list[str]:
    """Names of the profiles that come with MedFocus."""
    files = resources.files(__name__).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_profile(name: str) -> Profile:
    """The profile of a name.

    Raises:
        ConfigError: there is none of that name, or it is not valid.
    """
    if name not in names():
        raise ConfigError(f"There is no profile {name!r}. Known profiles: {', '.join(names())}.")
    text = (resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")
    try:
        return Profile.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        raise ConfigError(f"Profile {name!r} is not valid: {error}") from error
