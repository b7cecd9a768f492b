"""``medfocus heads``: what can be fitted on cached features, and which paper it is from."""

from pathlib import Path

import typer

from medfocus_pipeline.commands.output import say, say_columns

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

    heads = [(name, head.what, head.needs, head.source) for name, head in HEADS.items()]
    say_columns(("head", "what", "needs of the encoder", "source"), heads)
    for name, place in installed(HeadPluginConfig.group).items():
        say(f"of another package: {name} ({place})")
    say("fit one: medfocus probe --row coop:original")
    say("")
    lines = []
    for row in rows(Path()):
        source = row.source or entry(row.head).source
        lines.append((row.name, row.label, row.head.name, join_parts(row.focus), source))
    say_columns(("row", "what", "head", "on", "source"), lines)
    say("fit them all: medfocus reproduce; some: medfocus reproduce --rows clip,coop")
