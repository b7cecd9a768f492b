"""Everything MedFocus raises on purpose.

A message says what was wrong, what was got, what was expected and what to type next.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class MedFocusError(Exception):
    """Base of every error that a user can mend."""


class ConfigError(MedFocusError):
    """An option, card, profile or name is not usable."""


class DataError(MedFocusError):
    """A data set, or one image of it, cannot be used."""


class ImageError(DataError):
    """One image file cannot be read; the run goes on without it."""


class WeightsError(MedFocusError):
    """Model weights are missing, unreachable, corrupt or of another model."""


class StoreError(MedFocusError):
    """A cached store is missing, locked, of another schema, corrupt or out of step."""


class DamagedError(StoreError):
    """A file of the cache was read, and is not what was written."""


class AccessError(StoreError):
    """A file of the cache cannot be read now; what is in it may be whole."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``" Did you mean offline?"`` of a name that is nearly one of the known ones, else empty.

    >>> from medfocus_pipeline.errors import did_you_mean
    >>> did_you_mean("oflfine", ["paper", "offline"])
    ' Did you mean offline?'
    """
    near = get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""


def counted(count: int, one: str, more: str = "") -> str:
    """A number with its noun, and its verb if that is given too.

    >>> from medfocus_pipeline.errors import counted
    >>> counted(1, "file was", "files were"), counted(1200, "pair")
    ('1 file was', '1,200 pairs')
    """
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"


def one_line(error: BaseException) -> str:
    """An exception's text in one line of valid Unicode, at most 200 characters."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    words = " ".join((text or type(error).__name__).split())
    return words.encode("utf-8", "backslashreplace").decode()[:200].rstrip(".")
