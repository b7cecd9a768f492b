"""How a command ends that is not let go on: signals, closed outputs, a machine at its limits.

Standard library alone, because Ctrl-C may come while the rest is imported.
"""

import errno
import os
import signal
import sys
from io import TextIOWrapper
from types import FrameType

MESSAGE = "Stopped. What was finished is kept; the same command goes on from there."

_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_received: list[int] = []


def code() -> int:
    """What a stopped command exits with: 128 and the signal's number, 130 for Ctrl-C."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def end_on_signals() -> None:
    """From now on a signal ends the process at once: nothing is under way that could be lost."""
    _handle(_end)


def interrupt_on_signals() -> None:
    """From now on a signal is a `KeyboardInterrupt`, so that all is put away; a second ends it."""
    _handle(_interrupt)


def open_outputs() -> None:
    """Outputs that are closed lead nowhere, and those of few letters escape the others.

    A file would otherwise get the number of a closed output, and what is printed go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # None where it was closed
            stream.reconfigure(errors="backslashreplace")


def shortage(error: BaseException) -> str | None:
    """What to say of an error that is the machine's; None of any other."""
    if isinstance(error, MemoryError):
        return "Memory ran out. Use a smaller --batch-size or fewer --workers."
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return (
            "The system gives this process no more threads. Use fewer --workers, or raise the "
            "limit: ulimit -u"
        )
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        return "The system gives this process no more open files. Raise the limit: ulimit -n"
    if isinstance(error, OSError) and error.errno == errno.EAGAIN:
        return (
            "The system gives this process no more processes. Use fewer --workers, or raise the "
            "limit: ulimit -u"
        )
    if isinstance(error, OSError) and error.errno is not None:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}. What was finished is kept; mend it and run again."
    return None


def _handle(handler: "signal._HANDLER") -> None:
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    os.write(2, f"{MESSAGE}\n".encode())
    os._exit(code())


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    _handle(_end)
    raise KeyboardInterrupt
