"""Profiles: a named choice of segmenter, ROI rule, focus modes, encoder and heads."""

from importlib import resources
from itertools import takewhile
from pathlib import Path
from typing import Literal

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
    """The embedding stores of a profile: one for each focus mode.

    Attributes:
        roi: the ROI rule; `auto` is the one of the data set's card.
    """

    encoder: EncoderConfig = ClipConfig()
    roi: RoiRule | Literal["auto"] = "auto"
    focus: tuple[FocusMode, ...] = Field(default=("original", "segmented"), min_length=1)
    views: tuple[View, ...] = Field(default=EmbedConfig().views, min_length=1)

    def configs(self, *, auto: RoiRule) -> list[EmbedConfig]:
        """One configuration for each focus mode, in order.

        Args:
            auto: the rule that `auto` stands for.
        """
        roi = auto if self.roi == "auto" else self.roi
        return [
            EmbedConfig(encoder=self.encoder, roi=roi, focus=focus, views=self.views)
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


def full_name(name: str) -> str:
    """The name that means the same profile in every folder: a file's is its absolute path."""
    return str(Path(name).expanduser().resolve()) if _is_file(name) else name


def load_profile(name: str) -> Profile:
    """The profile of a name, or in a YAML file.

    Args:
        name: one of `names`, or the path of a file that ends in ``.yaml`` or ``.yml``.

    Raises:
        ConfigError: there is no such profile, or it is not valid; all problems, one a line.
    """
    text = profile_text(name)
    try:
        return Profile.model_validate(yaml.safe_load(text) or {})
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        ]
        raise ConfigError(
            f"Profile {name!r} is not valid:\n" + "\n".join(lines) + "\n"
            "All settings: medfocus profiles paper"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"Profile {name!r} is not YAML: {_one_line(error)}") from error


def profile_text(name: str) -> str:
    """A profile as it is written.

    Raises:
        ConfigError: there is none of that name, or the file cannot be read.
    """
    if not _is_file(name) and name not in names():
        raise ConfigError(
            f"There is no profile {name!r}. Known profiles: {', '.join(names())}. "
            "One of your own is a file: --profile mine.yaml"
        )
    path = Path(full_name(name)) if _is_file(name) else resources.files(__name__) / f"{name}.yaml"
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(
            f"Profile {name!r} cannot be read: {reason}. Name another: --profile {DEFAULT}"
        ) from error


def summary(name: str) -> str:
    """What a profile is: the comment that its file begins with, in one line.

    Raises:
        ConfigError: as `profile_text`.
    """
    lines = takewhile(lambda line: line.startswith("#"), profile_text(name).splitlines())
    return " ".join(line.lstrip("# ").rstrip() for line in lines)


def full_text(name: str) -> str:
    """A profile with every setting, also those that it leaves as they are; YAML that loads.

    Raises:
        ConfigError: as `load_profile`.
    """
    values = load_profile(name).model_dump(mode="json")
    text = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)
    return f"# {summary(name) or name}\n{text}"


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
