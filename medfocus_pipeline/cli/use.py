"""The commands that use a fitted run: ``export``, ``predict``, ``explain``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from medfocus_pipeline.cli.context import open_
from medfocus_pipeline.commands.options import (
    DEFAULT_CACHE,
    AsJson,
    CacheFolder,
    DataFolder,
    DatasetName,
    DeviceName,
    ProfileName,
    validated,
)
from medfocus_pipeline.config import Runtime
from medfocus_pipeline.errors import ConfigError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Images = Annotated[
    list[Path],
    typer.Argument(
        metavar="IMAGE...", help="Image files of any format, DICOM and NIfTI too, and folders."
    ),
]
From = Annotated[Path, typer.Option("--from", metavar="FOLDER", help="What medfocus export wrote.")]
Batch = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Images a model call. [default: the models']"),
]
Readable = Annotated[bool, typer.Option("--strict", help="Exit with 1 if any file cannot be read.")]
Method = Annotated[
    str | None,
    typer.Option("--method", help="tokens or occlusion. [default: what suits the encoder]"),
]


@app.command("export", epilog="Example: medfocus export brain --head fusion --fraction 100")
def export_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    head: Annotated[str | None, typer.Option(help="Of the row, e.g. fusion.")] = None,
    focus: Annotated[
        str | None, typer.Option(help="Of the row, e.g. segmented or original+segmented.")
    ] = None,
    fraction: Annotated[
        float | None, typer.Option(help="Percent of the training images. [default: 100]")
    ] = None,
    shots: Annotated[int | None, typer.Option(min=1, help="Images a class instead.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the run.")] = 0,
    list_: Annotated[
        bool, typer.Option("--list", help="List the rows with their accuracies, write nothing.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder. [default: <cache>/<dataset>/models/<run>]"),
    ] = None,
) -> None:
    """Pack one fitted run into a folder that predict and explain load: no cache, no pickle.

    Where several rows fit, the one that cross-validation on the training images ranks first.
    """
    from medfocus_pipeline.commands import export

    if fraction is not None and shots is not None:
        raise ConfigError("--fraction and --shots exclude each other: name one of them.")
    context = open_(dataset, data, cache_, profile)
    if list_:
        export.list_rows(context)
        return
    amount = 100.0 if fraction is None else fraction
    wanted = export.Wanted(
        head, focus, ("fraction", amount) if shots is None else ("shots", shots), seed
    )
    export.run(context, wanted, out=out)


@app.command(
    "predict",
    epilog="""\b
Examples:
  medfocus predict scan.dcm --from models/brain
  medfocus predict folder/ other.png --from models/brain --json > answers.json
  medfocus predict folder/ --from models/brain --overlay out/""",
)
def predict_command(
    images: Images,
    from_: From,
    as_json: AsJson = False,
    overlay: Annotated[
        Path | None,
        typer.Option("--overlay", help="Folder for a picture of each image with its heat map."),
    ] = None,
    method: Method = None,
    device: DeviceName = "auto",
    batch_size: Batch = None,
    strict: Readable = False,
) -> None:
    """Classify images: probabilities, the region that was looked at, and whether it is familiar.

    Research use only, not a medical device. Files that cannot be read are reported and left out.
    """
    _use(images, from_, as_json, overlay, method, device, batch_size, strict=strict)


@app.command("explain", epilog="Example: medfocus explain scan.png --from models/brain --out out/")
def explain_command(
    images: Images,
    from_: From,
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")] = Path("out"),
    as_json: AsJson = False,
    method: Method = None,
    device: DeviceName = "auto",
    batch_size: Batch = None,
    strict: Readable = False,
) -> None:
    """Draw for each image what drove the answer: its region and a heat map, as PNG.

    A heat map shows what the model used; it is no outline of a finding.
    """
    _use(images, from_, as_json, out, method, device, batch_size, strict=strict)


def _use(
    images: list[Path],
    from_: Path,
    as_json: bool,
    overlay: Path | None,
    method: str | None,
    device: str,
    batch_size: int | None,
    *,
    strict: bool,
) -> None:
    from medfocus_pipeline.classifier import Classifier
    from medfocus_pipeline.commands import predict

    known: dict[str | None, Literal["tokens", "occlusion"] | None]
    known = {None: None, "tokens": "tokens", "occlusion": "occlusion"}
    if method not in known:
        raise ConfigError(f"There is no method {method!r}; choose tokens or occlusion.")
    runtime = validated(Runtime, {"device": device, "batch_size": batch_size})
    classifier = Classifier.load(from_, device=runtime.device, batch_size=batch_size)
    code = predict.run(
        classifier, images, as_json=as_json, overlay=overlay, method=known[method], strict=strict
    )
    raise typer.Exit(code)
