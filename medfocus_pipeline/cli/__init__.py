"""The console script ``medfocus``: one command a stage.

Each command imports its own stage, so that one with nothing to do starts without the others.
"""

import logging
import sys
from copy import copy
from typing import Annotated, NoReturn

import typer

from medfocus_pipeline import __version__
from medfocus_pipeline.cli import paper, pipeline, start, train, use
from medfocus_pipeline.commands import cache, ending, heads, models
from medfocus_pipeline.commands.output import LogHandler, err, json_alone, say
from medfocus_pipeline.errors import ConfigError, MedFocusError
from medfocus_pipeline.report.drawing import printable

_PROBLEM, _USAGE = 1, 2
"""Exit codes: something is missing or broken; a wrong option or value."""

_VERBOSE, _QUIET = ("--verbose", "-v"), ("--quiet", "-q")
"""May stand anywhere on the command line."""

_INTERRUPTED = 130
"""What typer exits with after a `KeyboardInterrupt`."""

app = typer.Typer(
    help="Few-shot medical image classification: segment, embed, probe, each step cached.",
    epilog="Example: medfocus masks brain && medfocus embed && medfocus probe",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (start, pipeline, paper, use, train):
    app.registered_commands += commands.app.registered_commands
for name, group in (("cache", cache), ("heads", heads), ("models", models)):
    app.add_typer(group.app, name=name)


def _version(asked: bool) -> None:
    if asked:
        say(f"medfocus {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option(*_VERBOSE, help="Show more of the log.")] = False,
    quiet: Annotated[
        bool, typer.Option(*_QUIET, help="Show no progress bars and no warnings.")
    ] = False,
) -> None:
    json_alone(False)
    level = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    logging.basicConfig(level=level, handlers=[LogHandler()])


def main(app: typer.Typer = app) -> None:
    """Run the command line; a `MedFocusError` is one message.

    Exit code 2 is a wrong option, value, card or profile, 1 any other problem, 130 Ctrl-C.
    """
    sys.argv[1:] = _flags_first(sys.argv[1:])
    try:
        _asked(app, sys.argv[1:])()
    except MedFocusError as error:
        _fail(str(error), code=_USAGE if isinstance(error, ConfigError) else _PROBLEM)
    except KeyboardInterrupt:
        _stopped()
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:
            _stopped()
        raise
    except (MemoryError, OSError, RuntimeError) as error:
        reason = ending.shortage(error)
        if reason is None:
            raise
        _fail(reason)


def _asked(app: typer.Typer, arguments: list[str]) -> typer.Typer:
    """The app with the one command that is called; itself where none is.

    Typer looks at the options of every command that it has, which takes longer than many commands.
    """
    name = next((one for one in arguments if one[:1] != "-"), None)
    called = [command for command in app.registered_commands if command.name == name]
    if not called:
        return app
    alone = copy(app)
    alone.registered_commands, alone.registered_groups = called, []
    return alone


def _flags_first(arguments: list[str]) -> list[str]:
    """The arguments with the flags that may stand anywhere before the command."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = {*_VERBOSE, *_QUIET}
    return sorted(arguments[:end], key=lambda one: one not in flags) + arguments[end:]


def _fail(reason: str, *, code: int = _PROBLEM) -> NoReturn:
    text = "\n".join(map(printable, reason.split("\n")))
    err.print(f"Error: {text}", markup=False, style="bold red")
    sys.exit(code)


def _stopped() -> NoReturn:
    err.print(ending.MESSAGE)
    sys.exit(ending.code())
