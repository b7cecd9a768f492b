"""Command line options, and how they change a profile's configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import yaml
from pydantic import BaseModel, ValidationError

from medfocus_pipeline import plain_yaml
from medfocus_pipeline.commands.output import json_alone
from medfocus_pipeline.config import problems
from medfocus_pipeline.datasets.reading import Reading
from medfocus_pipeline.errors import ConfigError, did_you_mean
from medfocus_pipeline.places import place

Model = TypeVar("Model", bound=BaseModel)

DatasetName = Annotated[
    str | None,
    typer.Argument(
        metavar="[DATASET]", help="Name of the data set; the last one used if left out."
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data",
        parser=place,
        metavar="PATH",
        help="Folder of class folders, or a CSV; s3://bucket/... too. [default: data/<dataset>]",
    ),
]
CacheFolder = Annotated[
    Path,
    typer.Option(
        "--cache",
        envvar="MEDFOCUS_CACHE",
        parser=place,
        metavar="PATH",
        help="Where stores and results are kept; s3://bucket/... too.",
    ),
]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile", help="A name (medfocus profiles) or a YAML file. [default: the last one used]"
    ),
]
DeviceName = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", help="Images a model call. [default: the model's]")
]
Workers = Annotated[int, typer.Option("--workers", help="Threads that read images.")]
EngineName = Annotated[
    str | None,
    typer.Option("--engine", help="threads or ray. [default: the profile's, else threads]"),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="auto|HOST:PORT", help="Ray: the cluster. [default: this node's]"
    ),
]
EngineWorkers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="Threads that read images [default: 2]; Ray: processes [default: all there is "
        "room for].",
    ),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option("--gpus-per-worker", help="Ray: share of a GPU. [default: 1 if there are any]"),
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 if any image is left out.")]
AsJson = Annotated[
    bool,
    typer.Option("--json", callback=json_alone, help="Print one JSON document, nothing else."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other key of the configuration."),
]

Columns = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="OURS=THEIRS,...",
        help='Of a CSV: "path=Image Index,label=Finding Labels,group=Patient ID".',
    ),
]
ImagesFolder = Annotated[
    Path | None,
    typer.Option(
        "--images", parser=place, metavar="PATH", help="Folder that a CSV's paths are relative to."
    ),
]
KeepMasks = Annotated[
    bool | None,
    typer.Option(
        "--keep-masks/--no-keep-masks", help="Pictures that look like annotation masks are images."
    ),
]

DEFAULT_CACHE = Path("cache")


def changed(
    config: Model, options: Mapping[str, object], assignments: Sequence[str] | None
) -> Model:
    """A configuration with options and ``KEY=VALUE`` assignments applied.

    Args:
        options: dotted key -> value; None leaves the key alone. A key that ends in ``.name``
            and chooses another implementation drops the settings of the one before.
        assignments: ``segmenter.min_score=0.7``; values are read as YAML.

    Raises:
        ConfigError: a key or value is not valid; all of them are named.
    """
    values: dict[str, Any] = config.model_dump(mode="python")
    for key, value in options.items():
        if value is not None:
            _assign(values, key, value)
    for assignment in assignments or ():
        key, sign, text = assignment.partition("=")
        if not sign:
            raise ConfigError(f"--set {assignment!r}: expected KEY=VALUE, e.g. --set frame=128.")
        try:
            _assign(values, key.strip(), plain_yaml.load(text))
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {assignment!r}: the value is no YAML: {error}") from error
    return validated(type(config), values)


def validated(model: type[Model], values: object) -> Model:
    """Validate values as a configuration.

    Raises:
        ConfigError: all problems, one a line.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(
            "These options do not fit together:\n" + "\n".join(problems(error))
        ) from error


def reading_of(columns: str | None, images: Path | None, keep_masks: bool | None) -> Reading:
    """How a source is to be read, checked.

    Raises:
        ConfigError: a column is not given as OURS=THEIRS, or not one of ours.
    """
    pairs = [part.partition("=") for part in comma_separated(columns) or []]
    wrong = [ours for ours, sign, theirs in pairs if not (sign and theirs.strip())]
    if wrong:
        raise ConfigError(
            f"--columns {columns!r}: {', '.join(map(repr, wrong))} names no column; expected "
            'OURS=THEIRS, e.g. --columns "path=Image Index,label=Finding Labels".'
        )
    named = {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
    return validated(Reading, {"columns": named, "images": images, "keep_masks": keep_masks})


def comma_separated(text: str | None) -> list[str] | None:
    """``"a, b"`` as a list; None stays None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _assign(values: dict[str, Any], key: str, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        inner = values.get(parent)
        if not isinstance(inner, dict):
            near = did_you_mean(parent, values)
            raise ConfigError(
                f"There is no setting {key!r}.{near} Known here: {', '.join(values)}."
            )
        if last == "name" and parent == parents[-1] and inner.get("name") != value:
            values[parent] = inner = {}
        values = inner
    values[last] = value
