"""The pipeline's commands: scan, masks, embed, probe, results, status."""

from pathlib import Path
from typing import Annotated

import typer

from medfocus_pipeline.cli.context import base, distributed, open_, runtime_of
from medfocus_pipeline.commands.options import (
    DEFAULT_CACHE,
    Address,
    AsJson,
    Assignments,
    BatchSize,
    CacheFolder,
    Columns,
    DataFolder,
    DatasetName,
    DeviceName,
    EngineName,
    EngineWorkers,
    GpusPerWorker,
    ImagesFolder,
    KeepMasks,
    ProfileName,
    Strict,
    changed,
    comma_separated,
    reading_of,
)
from medfocus_pipeline.devices import cores
from medfocus_pipeline.errors import ConfigError

app = typer.Typer()


@app.command("scan", epilog="Example: medfocus scan brain --data ~/mri --problems")
def scan_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    columns: Columns = None,
    images: ImagesFolder = None,
    keep_masks: KeepMasks = None,
    gate: Annotated[
        bool | None,
        typer.Option("--gate/--no-gate", help="Leave out what is no medical image."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="NAME", help="A file that the gate must not leave out."),
    ] = None,
    problems: Annotated[bool, typer.Option("--problems", help="Name every file left out.")] = False,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Find the images and bring the manifest up to date."""
    from medfocus_pipeline.commands import scan

    reading = reading_of(columns, images, keep_masks)
    context = open_(dataset, data, cache_, profile, reading=reading).gated(gate, keep or ())
    raise typer.Exit(scan.run(context, all_problems=problems, strict=strict, as_json=as_json))


@app.command("masks", epilog="Example: medfocus masks brain --size tiny --points-per-side 16")
def masks_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    columns: Columns = None,
    images: ImagesFolder = None,
    keep_masks: KeepMasks = None,
    segmenter: Annotated[
        str | None, typer.Option(help="A family (medfocus models list) or package.module:Factory.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="SAM2: lite, tiny, small, base_plus, large or medsam2.")
    ] = None,
    points_per_side: Annotated[int | None, typer.Option(help="SAM2: side of the grid.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="SAM2: local weights.")] = None,
    revision: Annotated[str | None, typer.Option(help="SAM2: commit on the hub.")] = None,
    set_: Assignments = None,
    device: DeviceName = "auto",
    batch_size: BatchSize = None,
    engine: EngineName = None,
    address: Address = None,
    workers: EngineWorkers = None,
    gpus_per_worker: GpusPerWorker = None,
    compile_: Annotated[bool, typer.Option("--compile", help="torch.compile the encoder.")] = False,
    strict: Strict = False,
) -> None:
    """Segment every image and cache its candidate masks."""
    from medfocus_pipeline.commands import masks

    reading = reading_of(columns, images, keep_masks)
    context = open_(dataset, data, cache_, profile, reading=reading)
    options = {
        "segmenter.name": segmenter,
        "segmenter.size": size,
        "segmenter.points_per_side": points_per_side,
        "segmenter.checkpoint": checkpoint,
        "segmenter.revision": revision,
    }
    config = changed(base(context, context.masks, context.profile.masks), options, set_)
    asked = (engine, address, workers, gpus_per_worker)
    distributor, threads = distributed(context.profile.engine, *asked)
    runtime = runtime_of(device, batch_size, threads, compile_, engine=distributor)
    raise typer.Exit(masks.run(context, config, runtime, strict=strict))


@app.command("embed", epilog="Example: medfocus embed brain --focus original,crop --roi largest")
def embed_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    encoder: Annotated[
        str | None, typer.Option(help="A family (medfocus models list) or package.module:Factory.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Hub id, timm name or local folder.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="timm, lite-clip: local weights.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit on the hub.")] = None,
    features: Annotated[
        Path | None,
        typer.Option(help="Instead of an encoder: a .parquet or .npy (docs/extending.md)."),
    ] = None,
    focus: Annotated[
        str | None, typer.Option(help="original,segmented,overlay,mask,crop,dimmed: one or more.")
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(
            help="auto (the card's), salient, nested, union, best, largest, central or text."
        ),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(help="squeeze, pad or crop: how an image becomes the encoder's square."),
    ] = None,
    views: Annotated[
        str | None,
        typer.Option(
            help="identity,hflip,centre_crop: one or more; trivial_augment,medical beside them."
        ),
    ] = None,
    set_: Assignments = None,
    device: DeviceName = "auto",
    batch_size: BatchSize = None,
    engine: EngineName = None,
    address: Address = None,
    workers: EngineWorkers = None,
    gpus_per_worker: GpusPerWorker = None,
    strict: Strict = False,
) -> None:
    """Embed the focused images, and the class prompts."""
    from medfocus_pipeline.commands import embed

    if features is not None and (encoder or focus or views):
        raise ConfigError(
            "Features of a file are of whole images: --features goes without --encoder, --focus "
            "and --views."
        )
    context = open_(dataset, data, cache_, profile)
    options = {
        "encoder.name": encoder if features is None else "features",
        "encoder.file": features,
        "encoder.model": model,
        "encoder.checkpoint": checkpoint,
        "encoder.revision": revision,
        "focus": comma_separated(focus),
        "roi": roi,
        "fit": fit,
        "views": comma_separated(views),
    }
    plan = changed(base(context, context.embed, context.profile.embed), options, set_)
    asked = (engine, address, workers, gpus_per_worker)
    distributor, threads = distributed(context.profile.engine, *asked)
    runtime = runtime_of(device, batch_size, threads, compile_=False, engine=distributor)
    raise typer.Exit(embed.run(context, plan, runtime, strict=strict))


@app.command("probe", epilog="Example: medfocus probe brain --shots 1,2,4,8,16 --seeds 10")
def probe_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    row: Annotated[
        list[str] | None,
        typer.Option("--row", help="HEAD:PART[+PART], e.g. fusion:original+segmented; medfocus."),
    ] = None,
    fractions: Annotated[str | None, typer.Option(help="Percent of the training images.")] = None,
    shots: Annotated[str | None, typer.Option(help="Images a class, e.g. 1,2,4,8,16.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds.")] = None,
    lambdas: Annotated[
        bool, typer.Option("--lambda-sweep", help="Show the curve of fusion's lambda instead.")
    ] = False,
    set_: Assignments = None,
    as_json: AsJson = False,
    engine: EngineName = None,
    address: Address = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Processes that fit. [default: the cores; Ray: all there is room for]",
        ),
    ] = None,
) -> None:
    """Fit heads over fractions and seeds, print the table."""
    from medfocus_pipeline.commands import lambda_sweep, probe
    from medfocus_pipeline.project.plans import parse_row

    context = open_(dataset, data, cache_, profile)
    options = {
        "rows": None if row is None else [parse_row(text) for text in row],
        "fractions": [] if shots and fractions is None else comma_separated(fractions),
        "shots": comma_separated(shots),
        "seeds": seeds,
    }
    config = changed(base(context, context.probe, context.profile.probe), options, set_)
    if lambdas:
        lambda_sweep.run(context, config)
        return
    distributor, processes = distributed(context.profile.engine, engine, address, workers, None)
    probe.run(context, config, workers=processes or cores(), engine=distributor, as_json=as_json)


@app.command("results", epilog="Example: medfocus results brain --metric auroc --metric ece")
def results_command(
    dataset: DatasetName = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Such as auroc, accuracy_clean. [default: all of them]"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print what was measured: each row of the table over its seeds, or as JSON each run."""
    from medfocus_pipeline.commands import results

    results.run(open_(dataset, None, cache_, None), metric or (), as_json=as_json)


@app.command("status", epilog="Example: medfocus status brain")
def status_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    as_json: AsJson = False,
) -> None:
    """Say what is cached, stale or missing, and what each command would do."""
    from medfocus_pipeline.commands import status

    status.run(open_(dataset, data, cache_, profile), as_json=as_json)
