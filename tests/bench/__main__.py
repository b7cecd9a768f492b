"""``make bench``: how fast, and how well regions are found."""

from pathlib import Path
from typing import Annotated

import typer

from medfocus_pipeline.cli import main
from medfocus_pipeline.commands.options import DataFolder, validated

app = typer.Typer(
    invoke_without_command=True, pretty_exceptions_enable=False, rich_markup_mode=None
)


@app.callback(epilog='Example: make bench ARGS="--output bench.json"')
def bench_command(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("bench.json"),
    quick: Annotated[bool, typer.Option("--quick", help="Small, to see that it works.")] = False,
) -> None:
    """Measure the stages against the bare models (twelve minutes)."""
    if context.invoked_subcommand is None:
        from tests import bench

        bench.run(output, quick=quick)


@app.command(
    "regions",
    epilog='Example: make bench ARGS="regions --dataset breast --data ~/busi --count 50"',
)
def bench_regions_command(
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Also a data set that has annotations.")
    ] = None,
    data: DataFolder = None,
    count: Annotated[int, typer.Option(min=1, help="Regions of each kind.")] = 20,
    size: Annotated[
        str, typer.Option(help="lite, tiny, small, base_plus, large or medsam2.")
    ] = "lite",
    checkpoint: Annotated[Path | None, typer.Option(help="Local weights.")] = None,
    grid: Annotated[
        int, typer.Option(min=0, max=64, help="Also the best of N x N clicks; 16 takes minutes.")
    ] = 0,
) -> None:
    """Measure how well SAM2 outlines what it is pointed at: IoU, on phantoms it never saw."""
    from medfocus_pipeline.config import Sam2Config
    from tests.bench import regions

    config = validated(Sam2Config, {"size": size, "checkpoint": checkpoint})
    regions.run(config, dataset=dataset, data=data, count=count, grid=grid)


@app.command("finetune", epilog='Example: make bench ARGS="finetune --images 50 --epochs 10"')
def bench_finetune_command(
    images: Annotated[int, typer.Option(min=25, help="Of each class to learn from.")] = 50,
    epochs: Annotated[int, typer.Option(min=1, help="Of each run.")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="Of each side.")] = 3,
) -> None:
    """Measure fine-tuning against the bare passes of its network."""
    import tempfile

    from tests import bench
    from tests.bench import tuning

    with tempfile.TemporaryDirectory() as folder:
        figures = tuning.measure(Path(folder), images=images, epochs=epochs, repeats=repeats)
    bench.show({"finetune": figures})


@app.command("gate", epilog='Example: make bench ARGS="gate --images 120"')
def bench_gate_command(
    images: Annotated[int, typer.Option(min=16, help="Of a folder.")] = 120,
    repeats: Annotated[int, typer.Option(min=1, help="Of each side.")] = 3,
) -> None:
    """Measure what the gate costs: an image alone, a folder, and beside the embedding."""
    import tempfile

    from tests import bench
    from tests.bench import gating

    with tempfile.TemporaryDirectory() as folder:
        bench.show({"gate": gating.measure(Path(folder), images=images, repeats=repeats)})


@app.command("phantoms", epilog='Example: make bench ARGS="phantoms --count 200"')
def bench_phantoms_command(
    count: Annotated[int, typer.Option(min=1, help="Images of each kind.")] = 100,
) -> None:
    """Measure how fast phantoms are drawn, on one core."""
    from tests.bench import phantoms

    phantoms.run(count=count)


@app.command("scale", epilog='Example: make bench-scale ARGS="--rows 10000 --rows 1000000"')
def bench_scale_command(
    output: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("scale.json"),
    rows: Annotated[list[int], typer.Option(min=1000, help="Rows; may be repeated.")] = [  # noqa: B006
        10_000,
        100_000,
    ],
    folder: Annotated[
        Path | None, typer.Option(help="Where collections are made and left.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Of each command.")] = 3,
) -> None:
    """Measure commands that have nothing to do as a made-up collection grows."""
    from tests.bench import scale

    scale.run(output, rows=sorted(rows), folder=folder, repeats=repeats)


@app.command("flops", epilog='Example: make bench-flops ARGS="--teraflops 100"')
def bench_flops_command(
    teraflops: Annotated[
        float, typer.Option(min=0.001, help="10^12 operations a second that a GPU keeps up.")
    ] = 60,
) -> None:
    """Count the operations of every model on one picture; nothing is computed."""
    from tests.bench import flops

    flops.run(teraflops=teraflops)


if __name__ == "__main__":
    main(app)
