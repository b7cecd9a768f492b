"""What a paper needs beside the stages: adapt, gate, reproduce, audit, figure, report."""

from pathlib import Path
from typing import Annotated

import typer

from medfocus_pipeline.cli.context import open_, runtime_of
from medfocus_pipeline.commands.options import (
    DEFAULT_CACHE,
    AsJson,
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
    validated,
)
from medfocus_pipeline.devices import cores
from medfocus_pipeline.errors import ConfigError

app = typer.Typer()

Fitting = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes that fit. [default: the cores]"),
]


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
    workers: Fitting = None,
) -> None:
    """From hospital to hospital: learn in one domain, adapt to another without its labels.

    It embeds what is missing, fits every method from every source to every target, and prints
    the matrix.
    """
    from medfocus_pipeline.adaptation import named
    from medfocus_pipeline.commands import adapt
    from medfocus_pipeline.config.adaptation import AdaptConfig

    names = comma_separated(methods)
    options = {
        "methods": None if names is None else [named(name) for name in names],
        "seeds": seeds,
        "augment": comma_separated(augment),
    }
    adapt.run(
        study,
        changed(AdaptConfig(), options, set_),
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


@app.command(
    "reproduce",
    epilog="""\b
Examples:
  medfocus reproduce brain --profile offline
  medfocus reproduce brain --rows clip,coop,medfocusclip --seeds 3
  medfocus reproduce breast --data ~/busi --profile paper --device cuda""",
)
def reproduce_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    rows: Annotated[str | None, typer.Option(help="Some rows only, by name.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds.")] = None,
    device: DeviceName = "auto",
    batch_size: BatchSize = None,
    workers: Fitting = None,
) -> None:
    """Fill the paper's table for a data set: every method, baseline and ablation that can run.

    It runs the stages that are missing and goes on where it was stopped. A row whose weights
    are not on this machine says which it needs.
    """
    from medfocus_pipeline.commands import reproduce

    context = open_(dataset, data, cache_, profile)
    runtime = runtime_of(device, batch_size, 2, compile_=False)
    names, processes = comma_separated(rows), workers or cores()
    if names == []:
        raise ConfigError(
            "--rows is empty, expected names: --rows clip,medfocusclip, or leave it out."
        )
    code = reproduce.run(context, names=names, seeds=seeds, runtime=runtime, workers=processes)
    raise typer.Exit(code)


@app.command(
    "audit",
    epilog="""\b
Examples:
  medfocus audit brain --strict
  medfocus audit pneumonia        (a study: across its domains too)""",
)
def audit_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    distance: Annotated[
        int, typer.Option(help="Bits of 64 by which perceptual hashes of near duplicates differ.")
    ] = 4,
    cosine: Annotated[
        float, typer.Option(help="Least cosine of the embeddings of near duplicates.")
    ] = 0.99,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with 1 if training and test share bytes, pixels or patients."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look for duplicates, across the split and across labels, and count what there is."""
    from medfocus_pipeline.commands import audit
    from medfocus_pipeline.commands.output import bar
    from medfocus_pipeline.datasets.audit import AuditConfig
    from medfocus_pipeline.datasets.study_card import names_study
    from medfocus_pipeline.project.study import Study

    config = validated(AuditConfig, {"distance": distance, "cosine": cosine})
    if dataset is not None and data is None and names_study(dataset, cache=cache_):
        study = Study.open(dataset, profile=profile, cache=cache_, progress=bar)
        raise typer.Exit(audit.run_study(study, config, strict=strict, as_json=as_json))
    context = open_(dataset, data, cache_, profile)
    raise typer.Exit(audit.run(context, config, strict=strict, as_json=as_json))


@app.command("figure", epilog="Example: medfocus figure brain --count 6 --out brain.png")
def figure_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    count: Annotated[int, typer.Option(min=1, max=16, help="Images, the classes in turn.")] = 4,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="PNG file. [default: <cache>/<dataset>/figure.png]"),
    ] = None,
) -> None:
    """Draw what was done with a few test images: candidates, ROI, focused image, answer."""
    from medfocus_pipeline.commands import figure

    context = open_(dataset, data, cache_, profile)
    figure.run(context, count=count, path=out)


@app.command("report", epilog="Example: medfocus report brain --out ~/brain-report")
def report_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder. [default: <cache>/<dataset>/report]")
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            "--images", min=8, max=240, help="Images that galleries show, about. [default: 120]"
        ),
    ] = None,
) -> None:
    """Write one web page about a data set: results, masks, mistakes, and where they are from.

    It needs masks, embed and probe, and shows what reproduce has fitted. The page is one file
    that needs no network.
    """
    from medfocus_pipeline.commands import report
    from medfocus_pipeline.report import sampling

    context = open_(dataset, data, cache_, profile)
    report.run(context, out=out, images=images or sampling.DEFAULT)
