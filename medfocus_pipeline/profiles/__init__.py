"""Profiles: a named choice of segmenter, ROI rule, focus modes, encoder and heads."""

from importlib import resources
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, cast, get_args

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from medfocus_pipeline import plain_yaml
from medfocus_pipeline.config import (
    FIXED_VIEWS,
    ClipConfig,
    EmbedConfig,
    EncoderConfig,
    EngineConfig,
    Frozen,
    MasksConfig,
    ProbeConfig,
    ThreadsConfig,
    problems,
)
from medfocus_pipeline.errors import ConfigError, did_you_mean
from medfocus_pipeline.types import Augmentation, Fit, FocusMode, Rendition, RoiRule, View

DEFAULT = "paper"


class EmbedPlan(Frozen):
    """The embedding stores of a profile: one for each focus mode.

    Augmented views have stores of their own, behind these: heads see the fixed views alone.
    Features of a file are of whole images, so that one store of one view is all there is.

    Attributes:
        roi: the ROI rule; `auto` is the one of the data set's card.
        roi_parts: whether the focus `original`, too, is pooled over the ROI; None is where another
            focus mode needs the masks anyway.
        fit: see `EmbedConfig`.
        views: fixed ones, at least one, and augmentations.
        copies: how often each augmentation is drawn.
        augmentation_seed: see `EmbedConfig`.
    """

    encoder: EncoderConfig = ClipConfig()
    roi: RoiRule | Literal["auto"] = "auto"
    focus: tuple[FocusMode, ...] = Field(default=("original", "segmented"), min_length=1)
    roi_parts: bool | None = None
    fit: Fit = EmbedConfig().fit
    views: tuple[Rendition, ...] = FIXED_VIEWS
    copies: int = Field(default=4, ge=1, le=100)
    augmentation_seed: int = EmbedConfig().augmentation_seed

    @model_validator(mode="before")
    @classmethod
    def _whole_images_of_a_file(cls, values: Any) -> Any:
        encoder = values.get("encoder") if isinstance(values, dict) else None
        name = encoder.get("name") if isinstance(encoder, dict) else getattr(encoder, "name", None)
        if name != "features":
            return values
        return {**values, "focus": ("original",), "views": ("identity",), "roi_parts": False}

    @field_validator("views")
    @classmethod
    def _one_is_fixed(cls, views: tuple[Rendition, ...]) -> tuple[Rendition, ...]:
        if not set(views) & set(get_args(View)):
            raise ValueError(f"expected at least one of {', '.join(get_args(View))}")
        return views

    @property
    def needs_masks(self) -> bool:
        """Whether any store depends on the ROI."""
        return bool(self.roi_parts) or set(self.focus) != {"original"}

    @property
    def in_region(self) -> bool:
        """Whether every store pools over the ROI."""
        return self.needs_masks if self.roi_parts is None else self.roi_parts

    @property
    def fixed_views(self) -> tuple[View, ...]:
        """Views that are not drawn."""
        fixed = tuple(name for name in self.views if name in get_args(View))
        return cast("tuple[View, ...]", fixed)

    @property
    def augmentations(self) -> tuple[Augmentation, ...]:
        """Views that are drawn, each once."""
        return tuple(name for name in get_args(Augmentation) if name in self.views)

    def configs(self, *, auto: RoiRule) -> list[EmbedConfig]:
        """One configuration for each focus mode, in order, then those of the augmented views.

        Args:
            auto: the rule that `auto` stands for.
        """
        drawn = tuple(name for name in self.augmentations for _ in range(self.copies))
        return [
            EmbedConfig(
                encoder=self.encoder,
                roi=auto if self.roi == "auto" else self.roi,
                focus=focus,
                roi_parts=self.in_region,
                fit=self.fit,
                views=views,
                augmentation_seed=self.augmentation_seed,
            )
            for views in (self.fixed_views, drawn)
            if views
            for focus in dict.fromkeys(self.focus)
        ]


class Profile(Frozen):
    """What each stage does unless an option says otherwise.

    Attributes:
        gate: whether a scan leaves out what is no medical image.
        engine: what distributes the work of `masks`, `embed` and `probe`.
    """

    gate: bool = False
    engine: EngineConfig = ThreadsConfig()
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
        return Profile.model_validate(plain_yaml.load(text) or {})
    except ValidationError as error:
        raise ConfigError(
            f"Profile {name!r} is not valid:\n" + "\n".join(problems(error)) + "\n"
            "All settings: medfocus profiles paper"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"Profile {name!r} is not YAML: {_one_line(error)}. See one: medfocus profiles paper"
        ) from error


def profile_text(name: str) -> str:
    """A profile as it is written.

    Raises:
        ConfigError: there is none of that name, or the file cannot be read.
    """
    if not _is_file(name) and name not in names():
        raise ConfigError(
            f"There is no profile {name!r}.{did_you_mean(name, names())} Known profiles: "
            f"{', '.join(names())}. "
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
