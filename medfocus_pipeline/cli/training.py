"""Commands that train a segmenter or an encoder."""

from pathlib import Path
from typing import Annotated

import typer

from medfocus_pipeline.cli.common import open_
from medfocus_pipeline.commands.options import (
    DEFAULT_CACHE,
    Assignments,
    CacheFolder,
    DataFolder,
    DatasetName,
    DeviceName,
    ProfileName,
)

app = typer.Typer()


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
    from medfocus_pipeline.commands import train_offline

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
    from medfocus_pipeline.commands import train_adapter

    context = open_(dataset, data, cache_, profile)
    options: dict[str, object] = {
        "model": model,
        "revision": revision,
        "steps": steps,
        "seed": seed,
        "device": device,
    }
    raise typer.Exit(train_adapter.run(context, work=work, options=options, set_=set_))
