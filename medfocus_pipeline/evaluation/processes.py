"""Processes that fit: started once for all that is fitted, because each imports its libraries."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeVar

import numpy as np

from medfocus_pipeline.features import FeatureTable
from medfocus_pipeline.files import disk_errors
from medfocus_pipeline.workers import worker_pool

Task = TypeVar("Task")
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Processes:
    """Where tasks are done.

    Attributes:
        pool: None is this process.
        files: names for what the processes read, none of them twice.
    """

    pool: ProcessPoolExecutor | None
    files: Iterator[Path]

    def map(
        self,
        function: Callable[[FeatureTable, Task], Found],
        table: FeatureTable,
        tasks: Sequence[Task],
    ) -> Iterator[Found]:
        """What a function finds of a table for each task, in their order.

        The processes begin at once, this one as the answers are asked for. The features are
        written to a temporary file, of which the processes read what they need: sent along
        with each task they would be copied as often.

        Args:
            function: of a module, so that a process can import it.

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


HERE = Processes(None, iter(()))
"""This process alone."""


@contextmanager
def processes(number: int) -> Iterator[Processes]:
    """So many processes; 1 is this one."""
    if number == 1:
        yield HERE
        return
    with tempfile.TemporaryDirectory(prefix="medfocus-") as folder, worker_pool(number) as pool:
        names = (Path(folder) / f"features-{place}.npy" for place in count())
        yield Processes(pool, names)


def _read(found: Iterator[Found], path: Path) -> Iterator[Found]:
    yield from found
    path.unlink()


def _there(
    function: Callable[[FeatureTable, Task], Found], rest: FeatureTable, path: Path, task: Task
) -> Found:
    features = np.asarray(np.load(path, mmap_mode="r"))
    return function(replace(rest, features=features), task)
