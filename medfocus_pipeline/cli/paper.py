"""What a paper needs: reproduce, audit, figure, report."""

from pathlib import Path
from typing import Annotated

import typer

from medfocus_pipeline.cli.common import open_, runtime_of
from medfocus_pipeline.commands.options import (
    DEFAULT_CACHE,
    AsJson,
    BatchSize,
    CacheFolder,
    DataFolder,
    DatasetName,
    DeviceName,
    ProfileName,
    comma_separated,
    validated,
)
from medfocus_pipeline.devices import cores
from medfocus_pipeline.errors import ConfigError

app = typer.Typer()


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
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes that fit. [default: the cores]"),
    ] = None,
) -> None:
    """Fill the paper's table for a data set: every method, baseline and ablation that can run.

    It runs the stages that are missing and goes on where it was stopped. A row whose weights
    are not on this machine says which it needs.
    """
    from medfocus_pipeline.commands import reproduce

    context = open_(dataset, data, cache_, profile)
    runtime = runtime_of(device, batch_size, 2, compile_=False)
    if rows is not None and not comma_separated(rows):
        raise ConfigError(
            "--rows is empty, expected names: --rows clip,medfocusclip, or leave it out."
        )
    names, processes = comma_separated(rows), workers or cores()
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
    from medfocus_pipeline.commands.progress import bar
    from medfocus_pipeline.datasets.audit import AuditConfig
    from medfocus_pipeline.datasets.study import names_study
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
