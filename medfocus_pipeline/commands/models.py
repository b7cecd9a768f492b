"""``medfocus models``: the zoo, which weights are here, and fetching the others."""

import textwrap
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from medfocus_pipeline.commands.model_names import (
    TAKE_ANY_ID,
    config_of,
    find_weights,
    model_id,
    need_weights,
)
from medfocus_pipeline.commands.options import (
    DEFAULT_CACHE,
    AsJson,
    CacheFolder,
    DataFolder,
    DatasetName,
    ProfileName,
)
from medfocus_pipeline.commands.output import human, out, say, say_json
from medfocus_pipeline.config import EncoderConfig, PluginConfig, SegmenterConfig, installed
from medfocus_pipeline.encoders import ENCODERS
from medfocus_pipeline.errors import WeightsError
from medfocus_pipeline.profiles import DEFAULT, Profile, load_profile
from medfocus_pipeline.project.settings import Context, open_context
from medfocus_pipeline.segmenters import SEGMENTERS
from medfocus_pipeline.types import JSON
from medfocus_pipeline.weights import FileHashes
from medfocus_pipeline.zoo import Model, ModelEntry, name_of

app = typer.Typer(help="List and fetch model weights.", no_args_is_help=True)

_WIDTH = 100
"""Of the list, in characters, at most: a terminal may be narrower."""

_INDENT = " " * 6

ModelConfig = SegmenterConfig | EncoderConfig


@app.command("list", epilog="Example: medfocus models list")
def list_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    as_json: AsJson = False,
) -> None:
    """List the models that MedFocus knows and those of a data set, and which are here."""
    hashes = FileHashes(cache_ / "weights.json")
    if as_json:
        say_json([_facts(*one, hashes) for one in _every_model()])
        return
    if dataset is not None:
        say(f"used by {dataset}:")
        for used in models_of(open_context(dataset, data=data, cache=cache_, profile=profile)):
            say(f"  {model_id(used)} ({used.name})")
            _say_indented(_state(used, hashes))
    for kind, families in (("segmenter", SEGMENTERS), ("encoder", ENCODERS)):
        for config, entry in families.items():
            runs_on = f" ({entry.package})" if entry.package else ""
            say(f"{kind} {name_of(config)}{runs_on}: {entry.what}")
            for model in entry.models:
                _say_model(model, entry, hashes)
            if issubclass(config, PluginConfig):
                for name, place in installed(config.group).items():
                    say(f"  {name} ({place})")
    say(f"Any other of the hub: medfocus models pull <id> --family {'|'.join(TAKE_ANY_ID)}")


def _every_model() -> Iterator[tuple[str, Model, ModelEntry[Any]]]:
    for kind, families in (("segmenter", SEGMENTERS), ("encoder", ENCODERS)):
        for entry in families.values():
            yield from ((kind, model, entry) for model in entry.models)


def _facts(kind: str, model: Model, entry: ModelEntry[Any], hashes: FileHashes) -> JSON:
    """What `_say_model` says, for programs."""
    try:
        here = find_weights(model.config, hashes, download=False) is not None
    except WeightsError:
        here = False
    return {
        "kind": kind,
        "family": name_of(type(model.config)),
        "id": entry.identify(model.config),
        "package": entry.package,
        "dimensions": model.dim or None,
        "text": entry.has_text(model.config),
        "pixels": model.side or None,
        "preprocessing": model.pixels,
        "licence": model.licence,
        "gated": model.gated,
        "parameters_millions": model.parameters or None,
        "download_bytes": model.download or None,
        "here": here,
    }


def _say_model(model: Model, entry: ModelEntry[Any], hashes: FileHashes) -> None:
    """Its id, and in a second line what it is and whether it is here."""
    revision = getattr(model.config, "revision", None)
    say(f"  {entry.identify(model.config)}{f' at {revision}' if revision else ''}")
    parts = [
        f"{model.dim} dimensions" if model.dim else "",
        "image and text" if entry.has_text(model.config) else "",
        f"{model.side} px {model.pixels}" if model.side else "",
        f"licence {model.licence}{', gated' if model.gated else ''}",
        f"{model.parameters:g} M parameters" if model.parameters else "",
        model.note,
        _state(model.config, hashes, model),
    ]
    _say_indented("; ".join(part for part in parts if part))


def _say_indented(text: str) -> None:
    for line in textwrap.wrap(text, min(_WIDTH, out.width) - len(_INDENT)):
        say(f"{_INDENT}{line}")


def _state(config: Any, hashes: FileHashes, model: Model | None = None) -> str:
    """Whether a model's weights are here, with their revision and size, or why not."""
    try:
        weights = find_weights(config, hashes, download=False)
    except WeightsError as error:
        return f"not here: {error}"
    if weights is None:
        size = model.download if model else 0
        return f"not here ({human(size)})" if size else "not here"
    size = sum(path.stat().st_size for path in weights.paths.values())
    revision = weights.identity.revision
    return f"here ({revision[:8] if revision else 'installed'}, {human(size)})"


@app.command("pull", epilog="Example: medfocus models pull facebook/sam2.1-hiera-tiny")
def pull_command(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Hub ids; the models of the profile if left out."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="The models that this data set uses.")
    ] = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    family: Annotated[
        str | None,
        typer.Option(help=f"Of ids that are not in the list: {', '.join(TAKE_ANY_ID)}."),
    ] = None,
) -> None:
    """Fetch weights into the Hugging Face cache."""
    hashes = FileHashes(cache_ / "weights.json")
    wanted = [config_of(model, revision, family=family) for model in models or ()]
    if dataset is not None:
        wanted += models_of(open_context(dataset, data=data, cache=cache_, profile=profile))
    for config in wanted or models_of(load_profile(profile or DEFAULT)):
        weights = need_weights(config, hashes)
        size = human(sum(path.stat().st_size for path in weights.paths.values()))
        say(f"{weights.identity.id}: {weights.identity.revision or 'installed'}, {size}")


def models_of(settings: Profile | Context) -> tuple[ModelConfig, ...]:
    """The models that a profile, or a data set as it was last run, uses."""
    return settings.masks.segmenter, settings.embed.encoder
