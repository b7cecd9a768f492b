"""What a user sees while a stage works. Progress on stderr, results on stdout."""

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from medfocus_pipeline.errors import counted
from medfocus_pipeline.project.progress import Advance, silent
from medfocus_pipeline.report.drawing import printable, shortened

if TYPE_CHECKING:
    from medfocus_pipeline.project.filling import Filled
    from medfocus_pipeline.report.content import Section

_WIDTH = 240
"""Of tables that go to a file or a pipe, in characters; a terminal has its own."""


def _console(stderr: bool) -> Console:
    probe = Console(stderr=stderr)
    width = None if probe.is_terminal else _WIDTH
    return Console(stderr=stderr, highlight=False, emoji=False, soft_wrap=True, width=width)


out, err = _console(stderr=False), _console(stderr=True)

_LOG_EVERY = 15.0

_BAR_WIDTH = 50
"""Of a progress bar without its name: bar, count, rate and time left."""


class _RateColumn(ProgressColumn):
    """Rows a second, over the whole run."""

    def render(self, task: Task) -> Text:
        if not task.completed or not task.elapsed:
            return Text("")
        return Text(f"{task.completed / task.elapsed:.1f}/s")


@contextmanager
def bar(what: str, total: int, /) -> Iterator[Advance]:
    """A progress bar, or a line every quarter of a minute where stderr is no terminal.

    None with ``--quiet``.

    Yields:
        A function that is told how many rows are done more, and the total if it changed.
    """
    if logging.getLogger().level > logging.WARNING:
        with silent(what, total) as advance:
            yield advance
        return
    if not err.is_terminal:
        yield _lines(what, total)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as progress:
        room = max(12, err.width - _BAR_WIDTH)
        task = progress.add_task(shortened(printable(what), room), total=total)
        yield lambda rows, total=None: progress.update(task, advance=rows, total=total)


def _lines(what: str, expected: int) -> Advance:
    started = last = time.monotonic()
    done, whole = 0, expected

    def advance(rows: int, total: int | None = None, /) -> None:
        nonlocal done, last, whole
        done += rows
        whole = total or whole
        now = time.monotonic()
        if now - last >= _LOG_EVERY:
            last = now
            left = (whole - done) * (now - started) / max(done, 1)
            err.print(f"{what}: {done:,} of {whole:,}, about {left:.0f} s left")

    return advance


class LogHandler(logging.Handler):
    """The library's log on stderr, above a progress bar that may be there."""

    def __init__(self) -> None:
        super().__init__()
        # The hub's library writes its lines to stderr itself.
        self.addFilter(lambda record: not record.name.startswith("huggingface_hub"))

    def emit(self, record: logging.LogRecord) -> None:
        """One line a record."""
        err.print(f"{record.levelname.lower()}: {printable(record.getMessage())}", markup=False)


def say(text: str) -> None:
    """One line of result; nothing in it is read as markup."""
    out.print(_plain(text))


def _plain(text: str) -> str:
    return escape("\n".join(map(printable, text.split("\n"))))


def json_alone(asked: bool) -> bool:
    """Whether stdout is for a program: then `say_json` alone writes there."""
    out.quiet = asked
    return asked


def say_json(value: Any) -> None:
    """Facts for a program, as one JSON value on stdout."""
    print(json.dumps(value, indent=1), file=out.file)


def say_problems(problems: Mapping[str, str], *, shown: int | None = 5) -> None:
    """How many images were left out, and the first few with the reason.

    Args:
        problems: path -> reason.
        shown: how many to name; None is all.
    """
    if not problems:
        return
    say(f"{counted(len(problems), 'file was', 'files were')} left out:")
    for path, reason in islice(problems.items(), shown):
        say(f"  {path!r} {reason}")
    if shown is not None and len(problems) > shown:
        say(f"  … and {len(problems) - shown:,} more; medfocus scan --problems names them all")


def say_filled(filled: "Filled | None") -> None:
    """How many images, or others, a stage computed, and how fast; nothing if it had nothing to."""
    if filled is None:
        return
    count, unit = filled.computed, filled.unit
    rate = count / max(filled.seconds, 1e-9)
    computed = counted(count, unit.removesuffix("s"), unit)
    say(f"{filled.what}: {computed} in {filled.seconds:.1f} s, {rate:.1f} {unit}/s")


def human(size: float) -> str:
    """Bytes as people write them: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def say_columns(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, all of it on the left; a cell may have several lines."""
    table = Table(*map(_plain, header), box=None)
    for row in rows:
        table.add_row(*map(_plain, row))
    out.print(table)


def say_sections(title: str, sections: "Iterable[Section]", notes: Iterable[str]) -> None:
    """Print several tables, and the notes to them."""
    say(title)
    for section in sections:
        say_table(section.header, section.rows)
        say("")
    for note in notes:
        say(note)


def say_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, its first column on the left and whole; names may be anything."""
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(
            escape(printable(name)), justify="right" if number else "left", no_wrap=not number
        )
    for row in rows:
        table.add_row(*(escape(printable(cell)) for cell in row))
    out.print(table)
