"""Where runs are fitted: in this process, in others of this machine, or on a cluster.

Processes are started once for all that is fitted, because each imports its libraries.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from medfocus_pipeline.config import EngineConfig, RayConfig
from medfocus_pipeline.engines import ray_tasks
from medfocus_pipeline.features import FeatureTable
from medfocus_pipeline.files import disk_errors
from medfocus_pipeline.workers import worker_pool

Task = TypeVar("Task")
Output = TypeVar("Output")


class Executor(Protocol):
    """Where tasks are done."""

    def map(
        self,
        function: Callable[[FeatureTable, Task], Output],
        table: FeatureTable,
        tasks: Sequence[Task],
    ) -> Iterator[Output]:
        """What a function finds of a table for each task, in their order.

        Args:
            function: of a module, so that another process can import it.
        """


@dataclass(frozen=True, slots=True)
class Processes:
    """Processes of this machine.

    Attributes:
        pool: None is this process.
        files: names for what the processes read, none of them twice.
    """

    pool: ProcessPoolExecutor | None
    files: Iterator[Path]

    def map(
        self,
        function: Callable[[FeatureTable, Task], Output],
        table: FeatureTable,
        tasks: Sequence[Task],
    ) -> Iterator[Output]:
        """See `Executor`.

        The processes begin at once, this one as the answers are asked for. The features are
        written to a temporary file, of which the processes read what they need: sent along
        with each task they would be copied as often.

        Raises:
            StoreError: there is no room for the file.
        """
        if self.pool is None:
            return map(partial(function, table), tasks)
        path = next(self.files)
        with disk_errors(path.parent):
            np.save(path, table.features)
        rest = replace(table, features=table.features[:0])
        return _read(self.pool.map(partial(_there, function, rest, path), tasks), path)


_PREFIX, _LOCK = "medfocus-features-", "in-use.lock"

HERE = Processes(None, iter(()))
"""This process alone."""


@contextmanager
def processes(number: int) -> Iterator[Processes]:
    """So many processes; 1 is this one."""
    if number == 1:
        yield HERE
        return
    with _temporary_folder() as folder, worker_pool(number) as pool:
        yield Processes(pool, (folder / f"features-{place}.npy" for place in count()))


@contextmanager
def executor_of(engine: EngineConfig, number: int) -> Iterator[Executor]:
    """Where an engine works.

    Args:
        engine: threads are processes here: fitting holds the interpreter.
        number: of these processes.

    Raises:
        ConfigError: there is no cluster, or no Ray.
    """
    if isinstance(engine, RayConfig):
        with ray_tasks.ready(engine) as tasks:
            yield tasks
    else:
        with processes(number) as within:
            yield within


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder for what the processes read; that of a run that was killed goes with the next.

    Its lock says that its run lives: the system drops a lock with its process.
    """
    from filelock import FileLock

    remove_left_over()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, FileLock(Path(name) / _LOCK):
        yield Path(name)


def remove_left_over() -> list[Path]:
    """Remove the temporary folders of runs that were killed.

    Returns:
        Those that were.
    """
    from filelock import FileLock, Timeout

    removed = []
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")):
        if not (folder / _LOCK).is_file():
            continue
        try:
            with FileLock(folder / _LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
        except (Timeout, OSError):  # in use, or another user's
            continue
    return removed


def _read(found: Iterator[Output], path: Path) -> Iterator[Output]:
    yield from found
    path.unlink()


def _there(
    function: Callable[[FeatureTable, Task], Output], rest: FeatureTable, path: Path, task: Task
) -> Output:
    features = np.asarray(np.load(path, mmap_mode="r"))
    return function(replace(rest, features=features), task)
