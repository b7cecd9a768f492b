"""Commands that compare methods in one table: adapt, gate."""

from typing import Annotated

import typer

from medfocus_pipeline.cli.common import open_, runtime_of
from medfocus_pipeline.commands.options import (
    DEFAULT_CACHE,
    Assignments,
    BatchSize,
    CacheFolder,
    DataFolder,
    DatasetName,
    DeviceName,
    ProfileName,
    Workers,
    changed,
    comma_separated,
)
from medfocus_pipeline.devices import cores

app = typer.Typer()


@app.command(
    "adapt",
    epilog="""\b
Examples:
  medfocus adapt phantom-pneumonia --profile offline
  medfocus adapt pneumonia --source kermany --target rsna,covid
  medfocus adapt pneumonia --source others,rsna+kermany --methods source,coral,oracle
  medfocus adapt pneumonia --augment medical --methods dann,dann+augmentation
  medfocus adapt mine.yaml --seeds 10 --set fraction=50""",
)
def adapt_command(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A name in data/, or a YAML file with domains.")
    ],
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    source: Annotated[
        str | None,
        typer.Option(help="Domains; a+b is both at once, others all but the target."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Domains. [default: every one]")] = None,
    methods: Annotated[str | None, typer.Option(help="Some methods only, by name.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds.")] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            help="trivial_augment,medical: one or both; embeds such views for dann+augmentation."
        ),
    ] = None,
    set_: Assignments = None,
    device: DeviceName = "auto",
    batch_size: BatchSize = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes that fit. [default: the cores]"),
    ] = None,
) -> None:
    """From hospital to hospital: learn in one domain, adapt to another without its labels.

    It embeds what is missing, fits every method from every source to every target, and prints
    the matrix.
    """
    from medfocus_pipeline.adaptation import named
    from medfocus_pipeline.commands import adapt
    from medfocus_pipeline.config.adaptation import AdaptConfig

    names = comma_separated(methods)
    options = {"methods": None if names is None else [named(name) for name in names]}
    adapt.run(
        study,
        changed(
            AdaptConfig(), {**options, "seeds": seeds, "augment": comma_separated(augment)}, set_
        ),
        cache=cache_,
        profile=profile,
        sources=comma_separated(source),
        targets=comma_separated(target),
        runtime=runtime_of(device, batch_size, 2, compile_=False),
        workers=workers or cores(),
    )


@app.command(
    "gate",
    epilog="""\b
Examples:
  medfocus gate phantom-mixed
  medfocus gate mediclip --data ~/mediclip --profile paper
  medfocus gate mine --medical scans --methods mahalanobis,neighbours""",
)
def gate_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    medical: Annotated[
        str | None, typer.Option(help="The medical class. [default: the one called medical]")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Some one-class methods only, by name.")
    ] = None,
    parts: Annotated[
        str | None, typer.Option(help="Of the features, e.g. original.levels.")
    ] = None,
    networks: Annotated[
        str | None,
        typer.Option(help="Encoders that are fine-tuned, of: medfocus models list; or none."),
    ] = None,
    set_: Assignments = None,
    device: DeviceName = "auto",
    batch_size: BatchSize = None,
    workers: Workers = 2,
) -> None:
    """Medical or not: every method of telling, on a data set of both, in one table."""
    from medfocus_pipeline.commands import gate
    from medfocus_pipeline.commands.model_names import encoders_named
    from medfocus_pipeline.config import GateConfig
    from medfocus_pipeline.gate import default_config

    names = comma_separated(methods)
    options = {
        "one_class": None if names is None else [default_config(name) for name in names],
        "focus": None if parts is None else parts.split("+"),
        "networks": None if networks is None else encoders_named(networks),
    }
    config = changed(GateConfig(), options, set_)
    name = dataset or ""
    if name == gate.DRAWN and profile is None and not (cache_ / name).exists():
        profile = "offline"  # drawings need no hub
    context = open_(dataset, data, cache_, profile)
    engine = context.profile.engine
    runtime = runtime_of(device, batch_size, workers, compile_=False, engine=engine)
    gate.run(context, config, runtime, medical=medical, workers=cores())
