"""Processes that train one model together: each has its batch, all have the mean gradient.

Several processes of one thread each are faster on a CPU than one of several threads.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfocus_pipeline.errors import MedFocusError

if TYPE_CHECKING:
    from torch import Tensor

_GOODBYE = 5.0
"""Seconds in which a process that has lost its connection ends."""


@dataclass(frozen=True, slots=True)
class Team:
    """One process among those that work together.

    Attributes:
        rank: of this process; 0 is the one that the user started.
        size: how many they are.
    """

    rank: int = 0
    size: int = 1

    def average(self, tensors: "Sequence[Tensor]") -> None:
        """Replaces tensors by their means over the team, all in one message."""
        import torch
        from torch import distributed

        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.size
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


@contextmanager
def team(size: int, work: Callable[..., None], *arguments: Any) -> Iterator[Team]:
    """Starts the other processes and makes this one their rank 0; all end with the block.

    Args:
        size: processes, with this one.
        work: what the others call with their `Team` and then `arguments`; a module's function.

    Raises:
        MedFocusError: one of the others failed.
    """
    import torch
    from torch import distributed, multiprocessing

    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        context = multiprocessing.get_context("spawn")
        others = [
            context.Process(
                target=_join, args=(Team(rank, size), meeting, work, arguments), daemon=True
            )
            for rank in range(1, size)
        ]
        for process in others:
            process.start()
        try:
            _meet(Team(0, size), meeting)
            yield Team(0, size)
            _part(others, timeout=None)
        except RuntimeError:  # what torch raises when a process is gone
            _part(others, timeout=_GOODBYE)
            raise
        finally:
            for process in others:
                process.terminate()
                process.join()
            if size > 1 and distributed.is_initialized():
                distributed.destroy_process_group()
            torch.set_num_threads(threads)
            torch.set_flush_denormal(False)


def _part(others: Sequence[BaseProcess], *, timeout: float | None) -> None:
    """Waits for the others to end.

    Raises:
        MedFocusError: one of them failed.
    """
    for process in others:
        process.join(timeout)
        if process.exitcode:
            raise MedFocusError(
                f"A process of the training ended with code {process.exitcode}; what it said is "
                "above, and nothing if it was killed (-9: out of memory?). Run the same command "
                "again: it goes on from the last checkpoint."
            )


def _join(
    member: Team, meeting: Path, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 is told, and ends the others
    _meet(member, meeting)
    work(member, *arguments)


def _meet(member: Team, meeting: Path) -> None:
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if member.size > 1:
        distributed.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=member.rank, world_size=member.size
        )
