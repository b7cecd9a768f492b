"""What actors and tasks of a Ray cluster share: joining it, fit nodes, answers."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from logging import ERROR
from pathlib import Path
from typing import Any

from medfocus_pipeline.config import RayConfig
from medfocus_pipeline.errors import ConfigError, MedFocusError, StoreError
from medfocus_pipeline.stores.lock import holder_of
from medfocus_pipeline.stores.opening import versions
from medfocus_pipeline.types import Device

_PACKAGES = ("medfocus-pipeline", "numpy", "torch")
"""Those whose versions can change a number."""

TRIES_AGAIN = 5
"""Of a piece of work whose worker died: after so many it is the work that ends workers."""

_REACHED_WITHIN = 10.0
"""Seconds for the head to answer."""


@dataclass(frozen=True, slots=True)
class Driver:
    """What the workers must have in common with the command.

    Attributes:
        versions: of its packages.
        folder: its own, which relative paths begin from.
    """

    versions: Mapping[str, str]
    folder: str

    @classmethod
    def here(cls) -> "Driver":
        """This process."""
        return cls(versions(_PACKAGES), str(Path.cwd()))

    def followed(self) -> str:
        """Go to the driver's folder, in a worker, where it is there.

        Returns:
            Name of the node.

        Raises:
            ConfigError: a package has another version than the driver's.
        """
        node = socket.gethostname()
        wrong = [
            f"{name} {found or 'missing'} (the driver has {self.versions[name]})"
            for name, found in versions(_PACKAGES).items()
            if found != self.versions[name]
        ]
        if wrong:
            raise ConfigError(
                f"Node {node} has {', '.join(wrong)}: install the same versions on every node."
            )
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        return node


def room(config: RayConfig, device: Device) -> tuple[dict[str, float], int]:
    """What a worker takes, and for how many the cluster has that.

    Raises:
        ConfigError: not for a single one.
    """
    import ray

    have = ray.cluster_resources()
    gpus = config.gpus_per_worker
    if gpus is None:
        gpus = 0.0 if device == "cpu" or not have.get("GPU") else 1.0
    workers = int(have.get("CPU", 0))
    if gpus:
        workers = min(workers, int(have.get("GPU", 0) / gpus))
    if not workers:
        raise ConfigError(
            f"The cluster has {have.get('CPU', 0):.0f} cores and {have.get('GPU', 0):.0f} GPUs, "
            f"a worker takes 1 core and {gpus:g} GPUs. Use --gpus-per-worker 0 without GPUs."
        )
    return {"num_cpus": 1, "num_gpus": gpus}, workers


def check_same_folder(folder: Path, lock: str) -> None:
    """Refuse to work, in a worker, where a folder is not the one that the driver writes in.

    Args:
        folder: whose lock the driver holds.
        lock: what stands in the lock, see `holder_of`.

    Raises:
        StoreError: it is another one.
    """
    if holder_of(folder) != lock:
        raise StoreError(
            f"the folder {folder.absolute()} here is not the one that the driver writes in. Put "
            "the cache on a file system that every node has mounted at the same path."
        )


def answer(get: Callable[[], Any], *, of: str) -> Any:
    """What a worker answers; its error as ours.

    Args:
        of: what it works at.

    Raises:
        MedFocusError: it raised one, cannot start, or dies with every try.
    """
    from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError, WorkerCrashedError

    try:
        return get()
    except RayTaskError as error:
        if isinstance(error.cause, MedFocusError):
            raise error.cause from None
        raise
    except (RayActorError, WorkerCrashedError, OutOfMemoryError) as error:
        why = str(error).strip().splitlines()[-1].strip()
        raise MedFocusError(
            f"A Ray worker cannot start, or died {1 + TRIES_AGAIN} times at one {of} ({why}). "
            "Memory may be short: use fewer --workers; or a node lacks MedFocus. What was "
            "finished is kept."
        ) from error


@contextmanager
def connected(address: str) -> Iterator[None]:
    """In a cluster: that of ``ray.init`` where the program called it.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster.
    """
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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
