"""Plug-ins: a segmenter, an encoder or a head that another package brings."""

from importlib.metadata import entry_points
from typing import Any, ClassVar, get_args

from pydantic import Discriminator, Field, field_validator, model_validator

from medfocus_pipeline.config.base import Frozen

OWN, PLUGIN = "own", "plugin"
"""Tags of a union's configurations: those of MedFocus, told apart by name, and the plug-ins'."""


class PluginConfig(Frozen):
    """What another package brings; docs/extending.md is the contract.

    Attributes:
        name: ``package.module:Factory``; the name of an entry point stands for its value.
        options: keywords for the factory. A key that is no field is one of them.
    """

    group: ClassVar[str]
    name: str
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _rest_are_options(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        rest = {key: value for key, value in values.items() if key not in {"name", "options"}}
        if not rest:
            return values
        return {"name": values.get("name"), "options": {**(values.get("options") or {}), **rest}}

    @field_validator("name")
    @classmethod
    def _of_entry_point(cls, name: str) -> str:
        return installed(cls.group).get(name, name)

    def __hash__(self) -> int:
        """Of the options too, which are no tuple."""
        return hash(self.model_dump_json())


class SegmenterPluginConfig(PluginConfig):
    """A segmenter that another package brings."""

    group = "medfocus.segmenters"


class EncoderPluginConfig(PluginConfig):
    """An encoder that another package brings."""

    group = "medfocus.encoders"


class HeadPluginConfig(PluginConfig):
    """A head that another package brings."""

    group = "medfocus.heads"


def installed(group: str) -> dict[str, str]:
    """Entry points of a group that the installed packages declare: name -> ``module:Factory``."""
    return {point.name: point.value for point in entry_points(group=group)}


def own_or_plugin(group: str, own: Any) -> Discriminator:
    """What tells the configuration of a plug-in from those of MedFocus, by its name.

    Args:
        group: of the plug-ins' entry points.
        own: the union of MedFocus's own configurations, each with a literal `name`.
    """
    union, *_ = get_args(own)
    names = {get_args(kind.model_fields["name"].annotation)[0] for kind in get_args(union)}

    def tag(value: Any) -> str:
        if isinstance(value, PluginConfig):
            return PLUGIN
        name = value.get("name") if isinstance(value, dict) else None
        if not isinstance(name, str) or name in names:
            return OWN
        return PLUGIN if ":" in name or name in installed(group) else OWN

    return Discriminator(tag)
