"""What commands of several stages share."""

from pathlib import Path
from typing import TypeVar

from medfocus_pipeline.commands.options import validated
from medfocus_pipeline.commands.progress import say
from medfocus_pipeline.config import Frozen, Runtime
from medfocus_pipeline.datasets.reading import AS_FOUND, Reading
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


def runtime_of(device: str, batch_size: int | None, workers: int, compile_: bool) -> Runtime:
    """Where and how a model runs, checked."""
    return validated(
        Runtime,
        {"device": device, "batch_size": batch_size, "workers": workers, "compile": compile_},
    )
