"""What a user sees while a stage works. Progress on stderr, results on stdout."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

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
from rich.text import Text

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_LOG_EVERY = 15.0
_SHOWN = 5


class _RateColumn(ProgressColumn):
    """Rows a second, over the whole run."""

    def render(self, task: Task) -> Text:
        if not task.completed or not task.elapsed:
            return Text("")
        return Text(f"{task.completed / task.elapsed:.1f}/s")


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar, or a line every quarter of a minute where stderr is no terminal.

    Yields:
        A function that is told how many rows are done more.
    """
    if not err.is_terminal:
        yield _lines(what, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as progress:
        task = progress.add_task(what, total=total)
        yield lambda rows: progress.update(task, advance=rows)


def _lines(what: str, total: int) -> Callable[[int], None]:
    started = last = time.monotonic()
    done = 0

    def advance(rows: int) -> None:
        nonlocal done, last
        done += rows
        now = time.monotonic()
        if now - last >= _LOG_EVERY:
            last = now
            left = (total - done) * (now - started) / done
            err.print(f"{what}: {done:,} of {total:,}, about {left:.0f} s left")

    return advance


def say(text: str) -> None:
    """One line of result; nothing in it is read as markup."""
    out.print(escape(text))


def say_problems(problems: Mapping[str, str]) -> None:
    """How many images were left out, and the first few with the reason.

    Args:
        problems: path -> reason.
    """
    if not problems:
        return
    say(f"{len(problems):,} images were left out:")
    for path, reason in list(problems.items())[:_SHOWN]:
        say(f"  {path!r}: {reason}")
    if len(problems) > _SHOWN:
        say(f"  … and {len(problems) - _SHOWN:,} more (medfocus scan --problems lists them)")
