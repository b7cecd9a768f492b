"""The command ``medfocus report``."""

from pathlib import Path
from typing import Annotated

import typer

from medfocus_pipeline.report.sampling import DEFAULT
from stages.options import DEFAULT_CACHE, CacheFolder, DataFolder, DatasetName, ProfileName
from stages.progress import say
from stages.settings import open_context

app = typer.Typer()


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
        int, typer.Option("--images", min=8, max=240, help="Images that galleries show, about.")
    ] = DEFAULT,
) -> None:
    """Write one web page about a data set: results, masks, mistakes, and where they are from.

    It needs masks, embed and probe, and shows what reproduce has fitted. The page is one file
    that needs no network.
    """
    from stages import report

    context = open_context(dataset, data=data, cache=cache_, profile=profile)
    say(f"{context.dataset}: profile {context.profile_name}, data {context.data}")
    raise typer.Exit(report.run(context, out=out, images=images))
