"""Worker processes that end with the process that started them."""

import multiprocessing
import os
import threading
from multiprocessing.process import BaseProcess


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
