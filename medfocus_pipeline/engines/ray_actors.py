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
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

from medfocus_pipeline.config import RayConfig, Runtime
from medfocus_pipeline.devices import calls_at_once
from medfocus_pipeline.engines.protocol import Fill, Load
from medfocus_pipeline.errors import ConfigError, MedFocusError, StoreError
from medfocus_pipeline.stores.compute import Outcome, fill_shards, prepare
from medfocus_pipeline.stores.job import Job
from medfocus_pipeline.stores.lock import holder_of
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import Device

_log = getLogger(__name__)

_PACKAGES = ("medfocus-pipeline", "numpy", "torch")
"""Those whose versions can change a number."""

_TRIES_AGAIN = 5
"""Of a shard whose worker died: after so many it is the shard that ends workers."""

_REACHED_WITHIN, _STARTED_WITHIN = 10.0, 120.0
"""Seconds for the head to answer, and for workers to start."""


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
        versions: of the driver's packages.
        folder: the driver's, which relative paths begin from.
        lock: what stands in the store's lock.
    """

    load: Sequence[Any]
    runtime: Runtime
    versions: Mapping[str, str]
    folder: str
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
        node = socket.gethostname()
        wrong = [
            f"{name} {found or 'missing'} (the driver has {order.versions[name]})"
            for name, found in _versions().items()
            if found != order.versions[name]
        ]
        if wrong:
            raise ConfigError(
                f"Node {node} has {', '.join(wrong)}: install the same versions on every node."
            )
        return _Place(node, os.getpid())

    def fill(self, order: _Order, store: Store, shard: int, ids: Sequence[str]) -> _Done:
        """Compute and commit one shard.

        Raises:
            MedFocusError: the message names the node.
        """
        place = self.place(order)
        try:
            job = self._job = self._job or _loaded(order)
            if holder_of(store.path) != order.lock:
                raise StoreError(
                    f"the folder {store.path.absolute()} here is not the one that the driver "
                    "writes in. Put the cache on a file system that every node has mounted at "
                    "the same path."
                )
            with calls_at_once(order.runtime.device):  # on a CPU: one thread, as ever
                outcome = fill_shards(store, [(shard, list(ids))], job)
        except MedFocusError as error:
            raise type(error)(f"Node {place.node}: {error}") from None
        return _Done(self._number, place, shard, outcome)


def _loaded(order: _Order) -> Job[Any]:
    """The job with its model, in a worker."""
    import ray

    if Path(order.folder).is_dir():
        os.chdir(order.folder)
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

    with _connected(config.address):

        def fill(
            store: Store, image_ids: Sequence[str], *, on_rows: Callable[[int], None]
        ) -> Outcome:
            return _fill(store, image_ids, load, runtime, config, on_rows=on_rows)

        yield fill


def _fill(
    store: Store,
    image_ids: Sequence[str],
    load: Load,
    runtime: Runtime,
    config: RayConfig,
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
    sizes = {shard: len(ids) for shard, ids in plan}
    order = _Order([ray.put(load)], runtime, _versions(), str(Path.cwd()), lock)
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
            done: _Done = _answer(pool.get_next_unordered)
            submit(1)
            if done.place != places[done.worker]:  # it was with the process that is gone
                places[done.worker] = done.place
                again.append(done.shard)
            problems |= done.outcome.problems
            computed += done.outcome.computed
            on_rows(sizes[done.shard])
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

    asked, room = _room(config, device)
    number = min(config.workers or room, room, most)
    if config.workers and number < min(config.workers, most):
        _log.warning("The cluster has room for %d workers, not %d.", room, config.workers)
    made = ray.remote(_Worker).options(
        **asked, max_restarts=-1, max_task_retries=_TRIES_AGAIN, max_concurrency=1
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
        yield {actors[calls[call]]: (calls[call], _answer(partial(ray.get, call))) for call in here}
    finally:
        for actor in actors:
            ray.kill(actor)


def _room(config: RayConfig, device: Device) -> tuple[dict[str, float], int]:
    """What a worker takes, and for how many the cluster has that.

    Raises:
        ConfigError: not for a single one.
    """
    import ray

    have = ray.cluster_resources()
    gpus = config.gpus_per_worker
    if gpus is None:
        gpus = 0.0 if device == "cpu" or not have.get("GPU") else 1.0
    room = int(have.get("CPU", 0))
    if gpus:
        room = min(room, int(have.get("GPU", 0) / gpus))
    if not room:
        raise ConfigError(
            f"The cluster has {have.get('CPU', 0):.0f} cores and {have.get('GPU', 0):.0f} GPUs, "
            f"a worker takes 1 core and {gpus:g} GPUs. Use --gpus-per-worker 0 without GPUs."
        )
    return {"num_cpus": 1, "num_gpus": gpus}, room


def _answer(get: Callable[[], Any]) -> Any:
    """What a worker answers; its error as ours.

    Raises:
        MedFocusError: it raised one, cannot start, or dies with every try.
    """
    from ray.exceptions import RayActorError, RayTaskError

    try:
        return get()
    except RayTaskError as error:
        if isinstance(error.cause, MedFocusError):
            raise error.cause from None
        raise
    except RayActorError as error:
        why = str(error).strip().splitlines()[-1].strip()
        raise MedFocusError(
            f"A Ray worker cannot start, or died {1 + _TRIES_AGAIN} times at one shard ({why}). "
            "Memory may be short: use fewer --workers; or a node lacks MedFocus. What was "
            "finished is kept."
        ) from error


@contextmanager
def _connected(address: str) -> Iterator[None]:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "The engine ray needs Ray. Run: pip install 'medfocus-pipeline[ray]'"
        ) from error
    if ray.is_initialized():
        yield
        return
    where = "on this machine" if address == "auto" else f"at {address}"
    start = "Start one here: ray start --head; or join one: ray start --address host:port"
    try:
        if address != "auto":  # Ray itself would wait for long
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=_REACHED_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"There is no Ray cluster {where} ({error}). {start}") from error
    try:
        with _signals_kept():
            ray.init(address=address, log_to_driver=False, logging_level=ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"The Ray cluster {where} cannot be joined, or there is none ({_first_line(error)}). "
            f"{start}. One that asks for a token needs RAY_AUTH_MODE=token here, and every node "
            "the same version of Ray."
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; the program may have its own way to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _versions() -> dict[str, str]:
    """Of packages that can change a number; empty where one is not installed."""
    return {name: _version(name) for name in _PACKAGES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
