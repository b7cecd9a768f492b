"""Worker processes that end with the process that started them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

from medfocus_pipeline.errors import MedFocusError


@contextmanager
def worker_pool(
    number: int, *, begin: Callable[[], None] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """So many processes, none of which outlives this one; with the block ends what they have begun.

    What still waits then, because the block was left early, never begins.

    Args:
        begin: called in each of them before its first task; a module's function.

    Raises:
        MedFocusError: one of them was ended from outside.
    """
    # Not forked: a forked child may hang in the thread pools that BLAS and torch had here.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(number, context, _start, (begin,))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise MedFocusError(
            "A worker process was ended from outside, most likely because memory ran out. "
            "Run the same command again with fewer --workers; what was finished is kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start(begin: Callable[[], None] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent ends this one
    follow_parent()
    if begin is not None:
        begin()


def follow_parent() -> None:
    """In a worker: ends it as soon as its parent is gone, however that went.

    A pool's workers wait for tasks on a pipe that they hold themselves too, so that a parent
    that was killed would leave them waiting for ever, with all their memory.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
