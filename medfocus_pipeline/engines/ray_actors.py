"""Workers of a Ray cluster: each loads the model once, and computes and commits whole shards.

Ray's own `ActorPool` hands out the shards, and Ray restarts actors and calls them again. Ray Data
could hold one shard a block, but its blocks are data that stream through a pipeline: here a few
ids go out and a count comes back, because rows are written where they are computed. It would also
need pandas, and does not tell which calls were made again.

The driver holds the store's lock and knows which shards are missing; it never sees a row. Each
worker has one shard at a time, so that a worker that dies costs one. If the driver dies, its
workers end, and what is committed stays.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from logging import getLogger
from typing import Any

from medfocus_pipeline.columns import Ids
from medfocus_pipeline.config import RayConfig, Runtime
from medfocus_pipeline.devices import calls_at_once
from medfocus_pipeline.engines.protocol import Fill, Load
from medfocus_pipeline.engines.ray_cluster import (
    TRIES_AGAIN,
    Driver,
    answer,
    check_same_folder,
    connected,
    room,
)
from medfocus_pipeline.errors import ConfigError, MedFocusError
from medfocus_pipeline.stores.compute import Outcome, fill_shards, prepare
from medfocus_pipeline.stores.job import Job
from medfocus_pipeline.stores.lock import holder_of
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import Device

_log = getLogger(__name__)

_STARTED_WITHIN = 120.0
"""Seconds for workers to start."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A process that works.

    Attributes:
        node: its host's name.
        pid: another one after a restart.
    """

    node: str
    pid: int


@dataclass(frozen=True, slots=True)
class _Done:
    """A shard that a worker has committed."""

    worker: int
    place: _Place
    shard: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class _Order:
    """What a worker is told with every call: it may have started again since the last.

    Attributes:
        load: a reference in Ray's object store, in a list so that Ray does not resolve it.
        lock: what stands in the store's lock.
    """

    load: Sequence[Any]
    runtime: Runtime
    driver: Driver
    lock: str


class _Worker:
    """The actor. Ray makes it anew, with the same arguments, after its process has died."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._job: Job[Any] | None = None

    def place(self, order: _Order) -> _Place:
        """Where this is, if it is fit to work.

        Raises:
            ConfigError: a package has another version than the driver's.
        """
        return _Place(order.driver.followed(), os.getpid())

    def fill(self, order: _Order, store: Store, shard: int, ids: Sequence[str]) -> _Done:
        """Compute and commit one shard.

        Raises:
            MedFocusError: the message names the node.
        """
        place = self.place(order)
        try:
            job = self._job = self._job or _loaded(order)
            check_same_folder(store.path, order.lock)
            with calls_at_once(order.runtime.device):  # on a CPU: one thread, as ever
                outcome = fill_shards(store, [(shard, list(ids))], job)
        except MedFocusError as error:
            raise type(error)(f"Node {place.node}: {error}") from None
        return _Done(self._number, place, shard, outcome)


def _loaded(order: _Order) -> Job[Any]:
    """The job with its model, in a worker."""
    import ray

    load: Load = ray.get(order.load[0])
    runtime = order.runtime
    return load()(batch_size=runtime.batch_size, workers=runtime.workers, calls=1)


@contextmanager
def ready(load: Load, runtime: Runtime, /) -> Iterator[Fill]:
    """See `Engine`; connected to a cluster, that of `ray.init` where the program called it.

    A worker takes one core for the model; it reads images in `runtime.workers` threads.

    Raises:
        ConfigError: Ray is not installed, there is no cluster, it has no room for a worker, or a
            node has other packages.
        MedFocusError: a shard ends every worker that tries it.
    """
    config = runtime.engine
    if not isinstance(config, RayConfig):
        raise TypeError(f"expected a RayConfig, got {config!r}")
    with connected(config.address):
        yield partial(_fill, load, runtime, config)


def _fill(
    load: Load,
    runtime: Runtime,
    config: RayConfig,
    store: Store,
    image_ids: Ids,
    *,
    on_rows: Callable[[int], None],
) -> Outcome:
    import ray
    from ray.util import ActorPool

    lock = holder_of(store.path)
    if lock is None:
        raise ValueError(f"{store.path} is filled without its lock")
    plan = prepare(store, image_ids)
    if not plan:
        return Outcome(0, {})
    order = _Order([ray.put(load)], runtime, Driver.here(), lock)
    computed, problems = 0, dict[str, str]()
    again: list[int] = []
    with _workers(config, runtime.device, order, most=len(plan)) as started:
        places = dict(started.values())
        pool, tasks = ActorPool(list(started)), iter(plan)

        def submit(number: int) -> None:
            for task in islice(tasks, number):
                pool.submit(lambda actor, one: actor.fill.remote(order, store, *one), task)

        submit(len(started))
        while pool.has_next():
            done: _Done = answer(pool.get_next_unordered, of="shard")
            submit(1)
            if done.place != places[done.worker]:  # it was with the process that is gone
                places[done.worker] = done.place
                again.append(done.shard)
            problems |= done.outcome.problems
            computed += done.outcome.computed
            on_rows(plan.rows(done.shard))
    if again:
        _log.warning(
            "Workers died, and were started again: shards %s were computed once more.",
            ", ".join(map(str, sorted(again))),
        )
    store.compact()
    return Outcome(computed, problems)


@contextmanager
def _workers(
    config: RayConfig, device: Device, order: _Order, *, most: int
) -> Iterator[dict[Any, tuple[int, _Place]]]:
    """Actors that have started, each with its number and place."""
    import ray

    asked, have = room(config, device)
    number = min(config.workers or have, have, most)
    if config.workers and number < min(config.workers, most):
        _log.warning("The cluster has room for %d workers, not %d.", have, config.workers)
    made = ray.remote(_Worker).options(
        **asked, max_restarts=-1, max_task_retries=TRIES_AGAIN, max_concurrency=1
    )
    actors = [made.remote(one) for one in range(number)]
    calls = {actor.place.remote(order): one for one, actor in enumerate(actors)}
    try:
        here, late = ray.wait(list(calls), num_returns=number, timeout=_STARTED_WITHIN)
        if late:
            _log.warning("Only %d of %d workers started: the cluster is taken.", len(here), number)
        if not here:
            raise ConfigError(
                f"No worker started within {_STARTED_WITHIN:.0f} s: the cluster is taken. "
                "See `ray status`, and run the same command again; what was finished is kept."
            )
        for call in late:
            ray.kill(actors[calls[call]])
        yield {
            actors[calls[call]]: (calls[call], answer(partial(ray.get, call), of="shard"))
            for call in here
        }
    finally:
        for actor in actors:
            ray.kill(actor)
