"""The memory that all threads which decode may take together."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from medfocus_pipeline.datasets.pixels import check_size

_BYTES = 2**30


class Room:
    """A number of bytes that threads share: who finds too few left waits until others are done."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def take(self, wanted: int) -> Iterator[None]:
        """Hold some bytes; who wants more than there are gets all of them, alone."""
        share = min(wanted, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= share)
            self._free -= share
        try:
            yield
        finally:
            with self._changed:
                self._free += share
                self._changed.notify_all()


_ROOM = Room(_BYTES)


@contextmanager
def room_for(width: int, height: int, *, each: int, beside: int = 0) -> Iterator[None]:
    """Hold the memory that decoding a picture takes, once its size is known and before it is read.

    Args:
        each: bytes that a pixel takes at the worst moment, all copies together.
        beside: bytes that the file takes whatever the picture's size.

    Raises:
        ImageError: see `check_size`.
    """
    check_size(width, height)
    with _ROOM.take(width * height * each + beside):
        yield
