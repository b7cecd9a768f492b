"""Arithmetic that does not depend on how many cores a machine has."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from medfocus_pipeline.devices import one_torch_thread


@contextmanager
def single_threaded(*libraries: str) -> Iterator[None]:
    """One thread in BLAS and OpenMP inside the block.

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
