"""Models by the names that a command line gives."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medfocus_pipeline.commands.options import comma_separated
from medfocus_pipeline.config import ClipConfig, EncoderConfig, Frozen, PluginConfig
from medfocus_pipeline.encoders import ENCODERS
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.segmenters import SEGMENTERS
from medfocus_pipeline.zoo import Families, Model, ModelEntry, name_of

FAMILIES: dict[type[Frozen], ModelEntry[Any]] = {**SEGMENTERS, **ENCODERS}
"""Every segmenter and encoder, by the type of its configuration."""

_ALL: Families[Any, Any] = Families(FAMILIES)
model_id = _ALL.model_id
find_weights = _ALL.find_weights
need_weights = _ALL.need_weights

TAKE_ANY_ID = {name_of(kind): entry.hub for kind, entry in FAMILIES.items() if entry.hub}


def known() -> Iterator[Model]:
    """Every model that the table names."""
    for entry in FAMILIES.values():
        yield from entry.models


def config_of(model: str, revision: str | None = None, *, family: str | None = None) -> Any:
    """The configuration that uses a hub model.

    Args:
        model: an id of the table, one that begins as a family's do (``timm/<name>``), or any.
        revision: branch, tag or commit; None is the default one.
        family: what loads an id that is not in the table; None is `clip`.

    Raises:
        ConfigError: it is a path, no family of that name takes any id, or the id begins as a
            family's that does not know it.
    """
    if Path(model).exists():
        raise ConfigError(f"{model} is a local folder; give it to --model or --checkpoint.")
    if family is not None and family not in TAKE_ANY_ID:
        raise ConfigError(
            f"The family {family} does not take any hub id. Those that do: "
            f"{', '.join(TAKE_ANY_ID)}."
        )
    if family is None:
        for one in known():
            if model_id(one.config) == model:
                fields = type(one.config).model_fields
                changes = {"revision": revision} if revision and "revision" in fields else {}
                return one.config.model_copy(update=changes)
        for entry in FAMILIES.values():
            if entry.prefix and model.startswith(entry.prefix):
                return _of_prefix(model, revision, entry)
    return TAKE_ANY_ID[family or "clip"](model, revision)


def encoder_named(
    model: str | None, checkpoint: Path | None, *, otherwise: EncoderConfig
) -> EncoderConfig:
    """The encoder that a command names.

    Args:
        model: a family (``lite-clip``), an id of the table, or any hub id; None is `otherwise`.
        checkpoint: local weights of it.

    Raises:
        ConfigError: there is no such encoder, or it takes no checkpoint.
    """
    families = {name_of(kind): kind for kind in ENCODERS if not issubclass(kind, PluginConfig)}
    config: Any = otherwise
    if model in families:
        config = families[model]()
    elif model is not None:
        config = config_of(model)
    if type(config) not in ENCODERS:
        raise ConfigError(f"{model} is a segmenter. Encoders: medfocus models list")
    if checkpoint is None:
        return config  # type: ignore[no-any-return]
    if "checkpoint" not in type(config).model_fields:
        raise ConfigError(f"{model_id(config)} takes no --checkpoint; leave it out.")
    return config.model_copy(update={"checkpoint": checkpoint})  # type: ignore[no-any-return]


def encoders_named(names: str) -> list[EncoderConfig]:
    """The encoders that an option lists, with commas between them; ``none`` is none.

    Raises:
        ConfigError: there is no such encoder.
    """
    listed = [] if names == "none" else comma_separated(names) or []
    return [encoder_named(one, None, otherwise=ClipConfig()) for one in listed]


def _of_prefix(model: str, revision: str | None, entry: ModelEntry[Any]) -> Frozen:
    if entry.hub is not None:
        return entry.hub(model, revision)
    ids = (model_id(one.config) for one in entry.models)
    listed = ", ".join(name for name in ids if "/" in name)
    raise ConfigError(f"There is no implementation of {model}. Known: {listed}.")
