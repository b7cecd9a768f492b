"""``medfocus heads``: what can be fitted on cached features, and which paper it is from."""

from pathlib import Path

import typer
from rich.table import Table

from medfocus_pipeline.commands.progress import out, say

app = typer.Typer(help="List the heads.", no_args_is_help=True)


@app.callback()
def _common() -> None:
    """A callback keeps `list` a command of its own."""


@app.command("list", epilog="Example: medfocus heads list")
def list_command() -> None:
    """List every head: what it is, what it reads beside image features, its source."""
    from medfocus_pipeline.config import HeadPluginConfig, installed
    from medfocus_pipeline.heads.table import HEADS, entry
    from medfocus_pipeline.reproduction import rows
    from medfocus_pipeline.types import join_parts

    table = Table("head", "what", "needs of the encoder", "source", box=None)
    for name, head in HEADS.items():
        table.add_row(name, head.what, head.needs, head.source)
    out.print(table)
    for name, place in installed(HeadPluginConfig.group).items():
        say(f"of another package: {name} ({place})")
    say("fit one: medfocus probe --row coop:original")
    say("")
    table = Table("row", "what", "head", "on", "source", box=None)
    for row in rows(Path()):
        source = row.source or entry(row.head).source
        table.add_row(row.name, row.label, row.head.name, join_parts(row.focus), source)
    out.print(table)
    say("fit them all: medfocus reproduce; some: medfocus reproduce --rows clip,coop")
