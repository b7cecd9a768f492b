"""How long work tells whoever waits for it: a protocol, and its silent form."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Moves a progress bar on."""

    def __call__(self, rows: int, total: int | None = None, /) -> None:
        """`rows` more are done; `total` replaces the total."""


class Progress(Protocol):
    """Begins a progress bar, which ends with the context.

    >>> with silent("masks", 10) as advance:
    ...     advance(4)
    """

    def __call__(self, what: str, total: int, /) -> AbstractContextManager[Advance]:
        """`what` is done to `total` rows; 0 is a total that is not known yet."""


@contextmanager
def silent(what: str, total: int, /) -> Iterator[Advance]:
    """No progress bar."""
    del what, total

    def advance(rows: int, total: int | None = None, /) -> None:
        del rows, total

    yield advance
