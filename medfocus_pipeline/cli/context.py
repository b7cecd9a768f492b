"""What commands of several stages share."""

from pathlib import Path
from typing import TypeVar

from medfocus_pipeline.commands.options import validated
from medfocus_pipeline.commands.output import say
from medfocus_pipeline.config import EngineConfig, Frozen, Runtime, ThreadsConfig
from medfocus_pipeline.datasets.reading import AS_FOUND, Reading
from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.project.settings import Context, open_context

Base = TypeVar("Base", bound=Frozen)


def open_(
    dataset: str | None,
    data: Path | None,
    cache_: Path,
    profile: str | None,
    *,
    reading: Reading = AS_FOUND,
) -> Context:
    """The command's data set, folders and profile; says which they are."""
    context = open_context(dataset, data=data, cache=cache_, profile=profile, reading=reading)
    say(f"{context.dataset}: profile {context.profile_name}, data {context.data}")
    return context


def base(context: Context, last: Base, profile: Base) -> Base:
    """Where a stage's options start from: its last run, or the profile if that was named."""
    if context.reset or last == profile:
        return profile
    say(
        f"settings of the last run, which differ from the profile's; "
        f"--profile {context.profile_name} goes back to those"
    )
    return last


def runtime_of(
    device: str,
    batch_size: int | None,
    workers: int | None,
    compile_: bool,
    engine: EngineConfig = ThreadsConfig(),  # noqa: B008, frozen
) -> Runtime:
    """Where and how a model runs, checked.

    Args:
        workers: threads that read; None is as many as suit, also in each of an engine's workers.
    """
    values = {"engine": engine, "device": device, "batch_size": batch_size, "compile": compile_}
    return validated(Runtime, values if workers is None else {**values, "workers": workers})


def distributed(
    profile: EngineConfig,
    engine: str | None,
    address: str | None,
    workers: int | None,
    gpus_per_worker: float | None,
) -> tuple[EngineConfig, int | None]:
    """The engine that was asked for, and the number of threads that read.

    Args:
        profile: what goes unless `engine` names another.
        workers: threads of the engine `threads`, processes of another.

    Raises:
        ConfigError: there is no such engine, or it takes no such option.
    """
    named = profile.model_dump() if engine in (None, profile.name) else {"name": engine}
    options: dict[str, object] = {"address": address, "gpus_per_worker": gpus_per_worker}
    threads = None
    if named["name"] == "threads":
        if any(value is not None for value in options.values()):
            raise ConfigError("--address and --gpus-per-worker are a cluster's: use --engine ray.")
        threads = workers
    else:
        options["workers"] = workers
    chosen = {name: value for name, value in options.items() if value is not None}
    return validated(Runtime, {"engine": {**named, **chosen}}).engine, threads
