"""Tasks of a Ray cluster: functions of one large thing that all of them read, and of a small one.

The large thing is put once into Ray's object store; a node gets it once, and its workers read it
there. A task whose worker dies is done again by Ray, and finds the same.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from medfocus_pipeline.config import RayConfig
from medfocus_pipeline.engines.ray_cluster import TRIES_AGAIN, Driver, answer, connected, room
from medfocus_pipeline.errors import MedFocusError
from medfocus_pipeline.types import Device

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Found = TypeVar("Found")


class RayTasks:
    """A cluster that works at a bounded number of tasks.

    Args:
        most: tasks at a time.
        each: what one takes, by Ray's names.
    """

    def __init__(self, most: int, each: Mapping[str, float]) -> None:
        self._most, self._each = most, each
        self._under_way: set[Any] = set()
        self._driver = Driver.here()

    def map(
        self, function: Callable[[Shared, Task], Found], shared: Shared, tasks: Sequence[Task]
    ) -> Iterator[Found]:
        """What a function finds of something and of each task, in the order of the tasks.

        The cluster begins at once.

        Args:
            function: of a module, so that a worker can import it.

        Raises:
            MedFocusError: a task raised it, or ends every worker that tries it.
        """
        import ray

        run = ray.remote(_run).options(**self._each, max_retries=TRIES_AGAIN)
        call = partial(run.remote, self._driver, function, ray.put(shared))
        begun, rest = deque[Any](), iter(tasks)
        self._begin(call, begun, rest)
        return self._answers(call, begun, rest, len(tasks))

    def _begin(self, call: Callable[[Task], Any], begun: deque[Any], rest: Iterator[Task]) -> None:
        """Hand out tasks as long as the cluster may work at more."""
        for task in islice(rest, self._most - len(self._under_way)):
            begun.append(call(task))
            self._under_way.add(begun[-1])

    def _answers(
        self, call: Callable[[Task], Any], begun: deque[Any], rest: Iterator[Task], count: int
    ) -> Iterator[Any]:
        import ray

        for _ in range(count):
            self._begin(call, begun, rest)
            while not begun or begun[0] in self._under_way:
                done, _ = ray.wait(list(self._under_way), num_returns=1)
                self._under_way.difference_update(done)
                self._begin(call, begun, rest)
            yield answer(partial(ray.get, begun.popleft()), of="run")

    def cancel(self) -> None:
        """Give up what is under way."""
        import ray

        for task in self._under_way:
            ray.cancel(task, force=True)


def _run(driver: Driver, function: Callable[[Any, Any], Any], shared: Any, task: Any) -> Any:
    """In a worker: one task.

    Raises:
        MedFocusError: the message names the node.
    """
    node = driver.followed()
    try:
        return function(shared, task)
    except MedFocusError as error:
        raise type(error)(f"Node {node}: {error}") from None


@contextmanager
def ready(config: RayConfig, *, device: Device = "cpu") -> Iterator[RayTasks]:
    """Connected to a cluster, that of ``ray.init`` where the program called it.

    Args:
        config: `workers` are tasks at a time; `gpus_per_worker` counts unless `device` is a CPU.
        device: that a task computes on, beside one core.

    Raises:
        ConfigError: Ray is not installed, there is no cluster, or it has no room for a task.
    """
    if device == "cpu":
        config = config.model_copy(update={"gpus_per_worker": None})
    with connected(config.address):
        each, have = room(config, device)
        tasks = RayTasks(min(config.workers or have, have), each)
        try:
            yield tasks
        finally:
            tasks.cancel()
