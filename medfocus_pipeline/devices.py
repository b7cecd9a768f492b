"""Where models run: the device that was asked for, and its autocast."""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from importlib import import_module

from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.types import Device, Precision

_CALL_BYTES = 2 * 2**30
"""Memory that a call of a large model on a CPU may need: SAM 2.1 at 1,024 pixels needs most."""


def resolve_device(device: Device) -> str:
    """The torch device that stands for `device`.

    Args:
        device: `auto` takes the first there is of cuda, mps, cpu.

    Returns:
        ``cuda``, ``mps`` or ``cpu``.

    Raises:
        ConfigError: cuda or mps was asked for and this machine has none.
    """
    import torch

    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if device == "auto":
        return next(name for name, here in present.items() if here)
    if not present[device]:
        here = ", ".join(name for name in present if present[name])
        raise ConfigError(
            f"Device {device} was asked for and torch finds none; this machine has: {here}. "
            "Use --device auto."
        )
    return device


def settled_precision(device: str, precision: Precision) -> Precision:
    """The precision that suits a device: `fp32` on a CPU that only imitates `bf16`.

    Without AVX-512 or its like oneDNN does bfloat16 in software: the masks of sam2-lite took six
    times the CPU. The numbers differ by rounding, as they do between any two kinds of device.

    Args:
        device: from `resolve_device`.
        precision: that was asked for.
    """
    return "fp32" if device == "cpu" and precision == "bf16" and not _cpu_has_bf16() else precision


@lru_cache(maxsize=1)
def _cpu_has_bf16() -> bool:
    """What oneDNN says, as torch's compiler asks it; yes where torch does not say."""
    import torch

    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return True


def autocast(device: str, precision: Precision) -> AbstractContextManager[object]:
    """The context in which a model's forward pass runs.

    Args:
        device: from `resolve_device`.
        precision: `bf16` runs matrix products in bfloat16, see `settled_precision`; `fp32` leaves
            everything alone.
    """
    import torch

    halved = settled_precision(device, precision) == "bf16"
    return torch.autocast(device, dtype=torch.bfloat16, enabled=halved)


@contextmanager
def calls_at_once(device: Device) -> Iterator[int]:
    """How often at a time a model may be called inside the block, each time in its own thread.

    One call fills a GPU. On a CPU it is a call for each core, if memory allows, and each runs on
    one thread: calls side by side are done sooner than one after the other on all cores, and
    sums that are not split among threads are the same to the last bit on any machine's number
    of cores. The limit to one thread is torch's and goes for the whole process; as the caller's
    thread and new threads see it, models are called from these. Where no model has loaded torch,
    nothing is limited, and nothing but the CPU used.

    Raises:
        ConfigError: the device is not there.
    """
    if "torch" not in sys.modules:
        yield cores()
        return
    if resolve_device(device) != "cpu":
        yield 1
        return
    with one_torch_thread():
        yield max(1, min(cores(), _room()))


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch computes with one thread inside the block, if it is loaded at all."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _room() -> int:
    """Calls of a large model that the machine's memory has room for."""
    if not hasattr(os, "sysconf"):
        return cores()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // _CALL_BYTES


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def single_threaded(*libraries: str) -> Iterator[None]:
    """One thread in BLAS and OpenMP inside the block: arithmetic alike on any number of cores.

    Sums are split among threads, so that their number changes the last bits, and training
    carries those on. Only libraries that are loaded can be limited, so those that the block
    uses are imported first. Torch is told itself: the BLAS inside it goes by the number that
    torch last set, if it ever set one.

    Args:
        libraries: modules that bring thread pools of their own, e.g. ``torch``.
    """
    from threadpoolctl import threadpool_limits

    for library in libraries:
        import_module(library)
    with one_torch_thread(), threadpool_limits(1):
        yield
