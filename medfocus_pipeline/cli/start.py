"""Commands for a start: phantom, demo, profiles, doctor."""

from pathlib import Path
from typing import Annotated

import typer

from medfocus_pipeline.commands.options import (
    DEFAULT_CACHE,
    AsJson,
    CacheFolder,
    DataFolder,
    DatasetName,
    ProfileName,
    validated,
)
from medfocus_pipeline.commands.output import say
from medfocus_pipeline.devices import cores

app = typer.Typer()

_TRAIN, _TEST = 320, 160
"""Phantoms that are drawn if nobody says how many."""

Train = Annotated[int, typer.Option(min=0, help="Training images.")]
Test = Annotated[int, typer.Option(min=0, help="Test images.")]


@app.command("phantom", epilog="Example: medfocus phantom brain --train 1000 --test 300 --seed 1")
def phantom_command(
    kind: Annotated[
        str, typer.Argument(help="brain, breast, covid, lungs, chest, pictures or mixed.")
    ],
    train: Train = _TRAIN,
    test: Test = _TEST,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other images.")] = 0,
    difficulty: Annotated[
        float, typer.Option(min=0, max=1, help="0 (plain to see) to 1 (barely there).")
    ] = 0.5,
    size: Annotated[int, typer.Option(min=32, help="Side of the images, in pixels.")] = 224,
    domains: Annotated[
        int | None,
        typer.Option(min=1, help="chest: so many machines, a data set each. [default: none]"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder. [default: data/phantom-<kind>]")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes that draw. [default: the cores]"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what was drawn with other settings.")
    ] = False,
) -> None:
    """Draw a data set with known lesions: nothing clinical, for trying and testing."""
    from medfocus_pipeline.commands import phantom
    from medfocus_pipeline.datasets.phantoms.folder import PhantomSet, by_machines

    settings = {"kind": kind, "seed": seed, "difficulty": difficulty, "size": size}
    phantoms = validated(PhantomSet, settings)
    for one in [phantoms] if domains is None else by_machines(phantoms, domains):
        folder = phantom.folder_of(one, data)
        phantom.run(one, folder, train=train, test=test, workers=workers or cores(), force=force)
        if domains is None:
            phantom.say_next(kind, folder)
    if domains is not None and data is None:
        say("next: make adapt STUDY=phantom-pneumonia PROFILE=offline")


@app.command("demo", epilog="Example: medfocus demo --cache /tmp/cache")
def demo_command(
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder. [default: data/phantom-brain]")
    ] = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: Annotated[
        str, typer.Option("--profile", help="A name (medfocus profiles) or a YAML file.")
    ] = "offline",
    train: Train = _TRAIN,
    test: Test = _TEST,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes. [default: the cores]")
    ] = None,
) -> None:
    """Draw phantom-brain and take it through every stage (minutes; the second time, seconds)."""
    from medfocus_pipeline.commands import demo

    demo.run(
        data, train=train, test=test, cache=cache_, profile=profile, workers=workers or cores()
    )


@app.command("profiles", epilog="Example: medfocus profiles offline > mine.yaml")
def profiles_command(
    name: Annotated[
        str | None, typer.Argument(metavar="[PROFILE]", help="A name or a YAML file.")
    ] = None,
    cache_: CacheFolder = DEFAULT_CACHE,
) -> None:
    """List the profiles, or show every setting of one."""
    from medfocus_pipeline.commands import profiles

    profiles.run(name, cache=cache_)


@app.command("doctor", epilog="Example: medfocus doctor --profile paper")
def doctor_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine: packages, device, weights, disk."""
    from medfocus_pipeline.commands import doctor

    raise typer.Exit(doctor.run(dataset, data=data, cache=cache_, profile=profile, as_json=as_json))
