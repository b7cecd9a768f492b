"""Worker processes that end with the process that started them."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.process import BaseProcess


@contextmanager
def worker_pool(
    number: int, *, begin: Callable[[], None] | None = None
) -> Iterator[ProcessPoolExecutor]:
    """So many processes, none of which outlives this one; with the block ends what they have begun.

    What still waits then, because the block was left early, never begins.

    Args:
        begin: called in each of them before its first task; a module's function.
    """
    # Not forked: a forked child may hang in the thread pools that BLAS and torch had here.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(number, context, _start, (begin,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _start(begin: Callable[[], None] | None) -> None:
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
