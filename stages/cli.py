"""The console script ``medfocus``: one command a stage.

Each command imports its own stage, so that one with nothing to do starts without the others.
"""

import logging
import sys
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from medfocus_pipeline import __version__
from medfocus_pipeline.config import Frozen, Runtime
from medfocus_pipeline.devices import cores
from medfocus_pipeline.errors import MedFocusError
from stages import cache, heads, models
from stages.options import (
    DEFAULT_CACHE,
    Assignments,
    BatchSize,
    CacheFolder,
    DataFolder,
    DatasetName,
    DeviceName,
    ProfileName,
    Strict,
    Workers,
    changed,
    comma_separated,
    validated,
)
from stages.progress import LogHandler, err, say
from stages.settings import Context, open_context

Base = TypeVar("Base", bound=Frozen)

_INTERRUPTED = 130
"""Exit code after Ctrl-C."""

_TRAIN, _TEST = 320, 160
"""Phantoms that are drawn if nobody says how many."""

Train = Annotated[int, typer.Option(min=0, help="Training images.")]
Test = Annotated[int, typer.Option(min=0, help="Test images.")]

app = typer.Typer(
    help="Few-shot medical image classification: segment, embed, probe, each step cached.",
    epilog="Example: medfocus masks brain && medfocus embed && medfocus probe",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
bench_app = typer.Typer(invoke_without_command=True)
app.add_typer(bench_app, name="bench")
app.add_typer(cache.app, name="cache")
app.add_typer(heads.app, name="heads")
app.add_typer(models.app, name="models")


def _version(asked: bool) -> None:
    if asked:
        say(f"medfocus {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show more of the log.")] = False,
) -> None:
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, handlers=[LogHandler()])


def _open(dataset: str | None, data: Path | None, cache_: Path, profile: str | None) -> Context:
    context = open_context(dataset, data=data, cache=cache_, profile=profile)
    say(f"{context.dataset}: profile {context.profile_name}, data {context.data}")
    return context


@app.command("scan", epilog="Example: medfocus scan brain --data ~/mri --problems")
def scan_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    problems: Annotated[bool, typer.Option("--problems", help="Name every file left out.")] = False,
    strict: Strict = False,
) -> None:
    """Find the images and bring the manifest up to date."""
    from stages import scan

    context = _open(dataset, data, cache_, profile)
    raise typer.Exit(scan.run(context, all_problems=problems, strict=strict))


@app.command("masks", epilog="Example: medfocus masks brain --size tiny --points-per-side 16")
def masks_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    segmenter: Annotated[
        str | None, typer.Option(help="sam2, sam, medsam, sam_adapter or threshold.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="SAM2: lite, tiny, small, base_plus, large.")
    ] = None,
    points_per_side: Annotated[int | None, typer.Option(help="SAM2: side of the grid.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="SAM2: local weights.")] = None,
    revision: Annotated[str | None, typer.Option(help="SAM2: commit on the hub.")] = None,
    set_: Assignments = None,
    device: DeviceName = "auto",
    batch_size: BatchSize = None,
    workers: Workers = 2,
    compile_: Annotated[bool, typer.Option("--compile", help="torch.compile the encoder.")] = False,
    strict: Strict = False,
) -> None:
    """Segment every image and cache its candidate masks."""
    from stages import masks

    context = _open(dataset, data, cache_, profile)
    options = {
        "segmenter.name": segmenter,
        "segmenter.size": size,
        "segmenter.points_per_side": points_per_side,
        "segmenter.checkpoint": checkpoint,
        "segmenter.revision": revision,
    }
    config = changed(_base(context, context.masks, context.profile.masks), options, set_)
    runtime = _runtime(device, batch_size, workers, compile_)
    raise typer.Exit(masks.run(context, config, runtime, strict=strict))


@app.command("embed", epilog="Example: medfocus embed brain --focus original,crop --roi largest")
def embed_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    encoder: Annotated[
        str | None, typer.Option(help="clip, timm, efficientnet-lite0 or lite-clip.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Hub id, timm name or local folder.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="timm, lite-clip: local weights.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit on the hub.")] = None,
    focus: Annotated[
        str | None, typer.Option(help="original,segmented,overlay,mask,crop,dimmed: one or more.")
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(
            help="auto (the card's), salient, nested, union, best, largest, central or text."
        ),
    ] = None,
    views: Annotated[
        str | None, typer.Option(help="identity,hflip,centre_crop: one or more.")
    ] = None,
    set_: Assignments = None,
    device: DeviceName = "auto",
    batch_size: BatchSize = None,
    workers: Workers = 2,
    strict: Strict = False,
) -> None:
    """Embed the focused images, and the class prompts."""
    from stages import embed

    context = _open(dataset, data, cache_, profile)
    options = {
        "encoder.name": encoder,
        "encoder.model": model,
        "encoder.checkpoint": checkpoint,
        "encoder.revision": revision,
        "focus": comma_separated(focus),
        "roi": roi,
        "views": comma_separated(views),
    }
    plan = changed(_base(context, context.embed, context.profile.embed), options, set_)
    runtime = _runtime(device, batch_size, workers, compile_=False)
    raise typer.Exit(embed.run(context, plan, runtime, strict=strict))


@app.command("probe", epilog="Example: medfocus probe brain --shots 1,2,4,8,16 --seeds 10")
def probe_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    row: Annotated[
        list[str] | None,
        typer.Option("--row", help="Head and focus modes, e.g. fusion:original+segmented."),
    ] = None,
    fractions: Annotated[str | None, typer.Option(help="Percent of the training images.")] = None,
    shots: Annotated[str | None, typer.Option(help="Images a class, e.g. 1,2,4,8,16.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds.")] = None,
    lambdas: Annotated[
        bool, typer.Option("--lambda-sweep", help="Show the curve of fusion's lambda instead.")
    ] = False,
    set_: Assignments = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes that fit. [default: the cores]"),
    ] = None,
) -> None:
    """Fit heads over fractions and seeds, print the table."""
    from stages import lambda_sweep, probe

    context = _open(dataset, data, cache_, profile)
    options = {
        "rows": None if row is None else [probe.parse_row(text) for text in row],
        "fractions": [] if shots and fractions is None else comma_separated(fractions),
        "shots": comma_separated(shots),
        "seeds": seeds,
    }
    config = changed(_base(context, context.probe, context.profile.probe), options, set_)
    if lambdas:
        raise typer.Exit(lambda_sweep.run(context, config))
    processes = workers or cores()
    raise typer.Exit(probe.run(context, config, workers=processes))


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
    from stages import reproduce

    context = _open(dataset, data, cache_, profile)
    runtime = _runtime(device, batch_size, 2, compile_=False)
    names, processes = comma_separated(rows), workers or cores()
    code = reproduce.run(context, names=names, seeds=seeds, runtime=runtime, workers=processes)
    raise typer.Exit(code)


@app.command(
    "train-offline",
    epilog="""\b
Examples:
  medfocus train-offline sam2-lite
  medfocus train-offline sam2-lite --steps 200 --phantoms 300 --work /tmp/try
  medfocus train-offline sam2-lite --seed 1 --set learning_rate=5e-4 --work seed-1
  medfocus train-offline lite-clip""",
)
def train_offline_command(
    model: Annotated[str, typer.Argument(help="sam2-lite or lite-clip.")],
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            help="Folder for features, log and weights. [default: cache/training/<model>]",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates of the weights.")] = None,
    phantoms: Annotated[int | None, typer.Option(min=1, help="Images to learn from.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of phantoms and training.")] = None,
    set_: Assignments = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes that work together.")
    ] = None,
) -> None:
    """Train a model that comes with MedFocus anew, on phantoms alone: no hub, no GPU, no data.

    That takes minutes for lite-clip and hours for sam2-lite, which also needs 6 GB of disk. The
    same command goes on where an earlier one was stopped. The models in use stay as they are:
    the last lines say how to use the new one.
    """
    from stages import train_offline

    options: dict[str, object] = {
        "steps": steps,
        "phantoms": phantoms,
        "seed": seed,
        "workers": workers,
    }
    raise typer.Exit(train_offline.run(model, work=work, options=options, set_=set_))


@app.command(
    "train-adapter",
    epilog="""\b
Examples:
  medfocus train-adapter breast --data ~/busi
  medfocus train-adapter breast --model facebook/sam-vit-large --steps 5000 --device cuda
  medfocus train-adapter breast --model ./small-sam --set learning_rate=2e-3 --work try""",
)
def train_adapter_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    model: Annotated[
        str | None,
        typer.Option(help="SAM: hub id or local folder. [default: facebook/sam-vit-base]"),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit on the hub.")] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            help="Folder for log and weights. [default: <cache>/training/sam-adapter-<dataset>]",
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates of the weights.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of held-out images, weights and batches.")
    ] = None,
    set_: Assignments = None,
    device: DeviceName = "auto",
) -> None:
    """Teach a SAM to outline what the annotations of the training images outline (SAM-Adapter).

    SAM's image encoder stays as it is: adapters in it and the mask decoder are trained. A part
    of the training images only measures, and no test image is read. The same command goes on
    where an earlier one was stopped. The last line says how to use the adapter.
    """
    from stages import train_adapter

    context = _open(dataset, data, cache_, profile)
    options: dict[str, object] = {
        "model": model,
        "revision": revision,
        "steps": steps,
        "seed": seed,
        "device": device,
    }
    raise typer.Exit(train_adapter.run(context, work=work, options=options, set_=set_))


@app.command("status", epilog="Example: medfocus status brain")
def status_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
) -> None:
    """Say what is cached, stale or missing, and what each command would do."""
    from stages import status

    status.run(_open(dataset, data, cache_, profile))


@app.command("audit", epilog="Example: medfocus audit brain --strict")
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
        typer.Option("--strict", help="Exit with 1 if training and test share bytes or pixels."),
    ] = False,
) -> None:
    """Look for duplicates, across the split and across labels, and count what there is."""
    from medfocus_pipeline.datasets.audit import AuditConfig
    from stages import audit

    context = _open(dataset, data, cache_, profile)
    config = validated(AuditConfig, {"distance": distance, "cosine": cosine})
    raise typer.Exit(audit.run(context, config, strict=strict))


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
    from stages import figure

    context = _open(dataset, data, cache_, profile)
    raise typer.Exit(figure.run(context, count=count, path=out))


@app.command("phantom", epilog="Example: medfocus phantom brain --train 1000 --test 300 --seed 1")
def phantom_command(
    kind: Annotated[str, typer.Argument(help="brain, breast, covid, lungs or pictures.")],
    train: Train = _TRAIN,
    test: Test = _TEST,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other images.")] = 0,
    difficulty: Annotated[
        float, typer.Option(min=0, max=1, help="0 (plain to see) to 1 (barely there).")
    ] = 0.5,
    size: Annotated[int, typer.Option(min=32, help="Side of the images, in pixels.")] = 224,
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
    from medfocus_pipeline.datasets.phantoms.folder import PhantomSet
    from stages import phantom

    settings = {"kind": kind, "seed": seed, "difficulty": difficulty, "size": size}
    folder = data or phantom.default_folder(kind)
    phantom.run(
        validated(PhantomSet, settings),
        folder,
        train=train,
        test=test,
        workers=workers or cores(),
        force=force,
    )
    phantom.say_next(kind, folder)


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
    from stages import demo

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
    from stages import profiles

    profiles.run(name, cache=cache_)


@bench_app.callback(epilog="Example: medfocus bench --output bench.json")
def bench_command(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("bench.json"),
    quick: Annotated[bool, typer.Option("--quick", help="Small, to see that it works.")] = False,
) -> None:
    """Measure the stages against the bare models (ten minutes)."""
    if context.invoked_subcommand is None:
        from stages import bench

        bench.run(output, quick=quick)


@bench_app.command(
    "regions",
    epilog="Example: medfocus bench regions --dataset breast --data ~/busi --count 50",
)
def bench_regions_command(
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Also a data set that has annotations.")
    ] = None,
    data: DataFolder = None,
    count: Annotated[int, typer.Option(min=1, help="Regions of each kind.")] = 20,
    size: Annotated[str, typer.Option(help="lite, tiny, small, base_plus or large.")] = "lite",
    checkpoint: Annotated[Path | None, typer.Option(help="Local weights.")] = None,
    grid: Annotated[
        int, typer.Option(min=0, max=64, help="Also the best of N x N clicks; 16 takes minutes.")
    ] = 0,
) -> None:
    """Measure how well SAM2 outlines what it is pointed at: IoU, on phantoms it never saw."""
    from medfocus_pipeline.config import Sam2Config
    from stages.bench import regions

    config = validated(Sam2Config, {"size": size, "checkpoint": checkpoint})
    regions.run(config, dataset=dataset, data=data, count=count, grid=grid)


@bench_app.command("phantoms", epilog="Example: medfocus bench phantoms --count 200")
def bench_phantoms_command(
    count: Annotated[int, typer.Option(min=1, help="Images of each kind.")] = 100,
) -> None:
    """Measure how fast phantoms are drawn, on one core."""
    from stages.bench import phantoms

    phantoms.run(count=count)


@app.command("doctor", epilog="Example: medfocus doctor --profile paper")
def doctor_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
) -> None:
    """Check this machine: packages, device, weights, disk."""
    from stages import doctor

    raise typer.Exit(doctor.run(dataset, data=data, cache=cache_, profile=profile))


def _base(context: Context, last: Base, profile: Base) -> Base:
    """Where a stage's options start from: its last run, or the profile if that was named."""
    if context.reset or last == profile:
        return profile
    say(
        f"settings of the last run, which differ from the profile's; "
        f"--profile {context.profile_name} goes back to those"
    )
    return last


def _runtime(device: str, batch_size: int | None, workers: int, compile_: bool) -> Runtime:
    return validated(
        Runtime,
        {"device": device, "batch_size": batch_size, "workers": workers, "compile": compile_},
    )


def main() -> None:
    """Run the command line; a `MedFocusError` is one message and exit code 1."""
    try:
        app()
    except MedFocusError as error:
        err.print(f"Error: {error}", markup=False, style="bold red")
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            err.print("Stopped. What was finished is kept; the same command goes on from there.")
        raise
