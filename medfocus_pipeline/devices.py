"""Where models run: the device that was asked for, and its autocast."""

import os
from contextlib import AbstractContextManager

from medfocus_pipeline.errors import ConfigError
from medfocus_pipeline.types import Device, Precision


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


def autocast(device: str, precision: Precision) -> AbstractContextManager[object]:
    """The context in which a model's forward pass runs.

    Args:
        device: from `resolve_device`.
        precision: `bf16` runs matrix products in bfloat16; `fp32` leaves everything alone.
    """
    import torch

    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
