"""Commands that train a network: on a subset, or a segmenter or an encoder for all."""

from pathlib import Path
from typing import Annotated

import typer

from medfocus_pipeline.cli.context import distributed, open_, runtime_of
from medfocus_pipeline.commands.options import (
    DEFAULT_CACHE,
    Address,
    Assignments,
    CacheFolder,
    DataFolder,
    DatasetName,
    DeviceName,
    EngineName,
    EngineWorkers,
    GpusPerWorker,
    ProfileName,
    changed,
    comma_separated,
)
from medfocus_pipeline.devices import cores
from medfocus_pipeline.errors import ConfigError

app = typer.Typer()


@app.command(
    "finetune",
    epilog="""\b
Examples:
  medfocus finetune brain --model efficientnet-lite0 --what last_block --fractions 5,20,100
  medfocus finetune brain --model timm/resnet50.a1_in1k --what all --device cuda
  medfocus finetune chest --balance sampler --augmentation medical --set run.epochs=40
  medfocus finetune brain --seeds 8 --engine ray --gpus-per-worker 1""",
)
def finetune_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    model: Annotated[
        str | None,
        typer.Option(help="An encoder of: medfocus models list. [default: the profile's]"),
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="The encoder's local weights.")] = None,
    recipe: Annotated[
        str, typer.Option(help="How it is trained: few-shot or medclip-classification.")
    ] = "few-shot",
    what: Annotated[
        str | None, typer.Option(help="What is trained: layer, last_block, lora or all.")
    ] = None,
    fractions: Annotated[str | None, typer.Option(help="Percent of the training images.")] = None,
    shots: Annotated[str | None, typer.Option(help="Images a class, e.g. 4,8,16.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Number of seeds.")] = None,
    epochs: Annotated[int | None, typer.Option(help="At most.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The greatest.")] = None,
    balance: Annotated[
        str | None, typer.Option(help="Unequal classes: none, sampler, weights or undersample.")
    ] = None,
    augmentation: Annotated[
        str | None, typer.Option(help="none, trivial_augment or medical.")
    ] = None,
    focus: Annotated[str | None, typer.Option(help="One focus mode. [default: original]")] = None,
    trials: Annotated[
        int | None, typer.Option(help="Of a search of hyper-parameters inside each subset.")
    ] = None,
    set_: Assignments = None,
    device: DeviceName = "auto",
    at_once: Annotated[
        int | None,
        typer.Option(help="Images in memory at once; batches of more are accumulated."),
    ] = None,
    engine: EngineName = None,
    address: Address = None,
    workers: EngineWorkers = None,
    gpus_per_worker: GpusPerWorker = None,
) -> None:
    """Train a network on each subset, with a classification layer on its embedding.

    The number of epochs is chosen inside the subset. The same command goes on where an earlier one
    was stopped. Linear probes of the same encoder stand beside it in the table.
    """
    from medfocus_pipeline.commands import finetune
    from medfocus_pipeline.commands.model_names import encoder_named
    from medfocus_pipeline.config.tuning import RECIPES, TuningConfig

    if recipe not in RECIPES:
        raise ConfigError(f"There is no recipe {recipe!r}; choose one of: {', '.join(RECIPES)}.")
    context = open_(dataset, data, cache_, profile)
    options: dict[str, object] = {
        "fractions": [] if shots and fractions is None else comma_separated(fractions),
        "shots": comma_separated(shots),
        "seeds": seeds,
        "run.trained": what,
        "run.epochs": epochs,
        "run.learning_rate": learning_rate,
        "run.balance": balance,
        "run.augmentation": augmentation,
        "run.focus": focus,
        "search.trials": trials,
    }
    config = changed(TuningConfig(run=RECIPES[recipe]), options, set_)
    encoder = encoder_named(model, checkpoint, otherwise=context.profile.embed.encoder)
    asked = (engine, address, workers, gpus_per_worker)
    distributor, threads = distributed(context.profile.engine, *asked)
    runtime = runtime_of(device, at_once, threads, compile_=False, engine=distributor)
    finetune.run(context, encoder, config, runtime=runtime, workers=cores())


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
    train_offline.run(model, work=work, options=options, set_=set_)


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
    train_adapter.run(context, work=work, options=options, set_=set_)
