"""Columns of Arrow as NumPy arrays, and looking ids up in them without an object for each.

``to_numpy`` and ``pa.array`` of a list import pandas where it is installed: half a second.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from medfocus_pipeline.types import IntArray

Ids: TypeAlias = Sequence[str] | pa.StringArray
"""Ids of rows; a column has each once."""

_WIDTH = 64
"""Characters of a SHA-256, which ids are."""

_ROWS = 1 << 16
"""That are compared at a time."""


def id_array(values: Sequence[str]) -> pa.StringArray:
    """Texts as a column, of up to 33 million ids."""
    encoded = [text.encode() for text in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64).astype(np.int32)
    buffers = pa.py_buffer(ends.tobytes()), pa.py_buffer(b"".join(encoded))
    return pa.StringArray.from_buffers(len(encoded), *buffers)


def distinct(values: Ids) -> pa.StringArray:
    """Ids as a column, each once, in the order of their first places."""
    return values if isinstance(values, pa.StringArray) else id_array(list(dict.fromkeys(values)))


def row_array(rows: IntArray) -> pa.Int64Array:
    """Row numbers, for ``take``."""
    buffer = pa.py_buffer(np.ascontiguousarray(rows, np.int64))
    return pa.Int64Array.from_buffers(pa.int64(), len(rows), [None, buffer])


def score_array(values: Sequence[float]) -> pa.DoubleArray:
    """Numbers as a column, null where they are nan."""
    floats = np.array(values, np.float64)
    known = np.packbits(~np.isnan(floats), bitorder="little")
    buffers = pa.py_buffer(known.tobytes()), pa.py_buffer(floats.tobytes())
    return pa.DoubleArray.from_buffers(pa.float64(), len(floats), buffers)


def whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array, without a copy where it is one."""
    if isinstance(column, pa.Array):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def numbers(column: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    """A column of numbers without nulls."""
    found: NDArray[Any] = np.from_dlpack(whole(column))
    return found


def is_empty(column: pa.ChunkedArray | pa.Array) -> NDArray[np.bool_]:
    """Of which rows the text is empty, ``(n,) bool``."""
    empty: NDArray[np.bool_] = numbers(pc.binary_length(column)) == 0
    return empty


def places(wanted: pa.StringArray, among: pa.StringArray) -> IntArray:
    """Where texts stand in a column, ``(n,) int64``: the first place, -1 of those that do not.

    As ``pc.index_in``, which takes three times the memory and longer.
    """
    return Lookup(among)(wanted)


class Lookup:
    """Finds texts in a column by 64 bits of each; whether they are equal is looked at after.

    Args:
        among: the column; a text that stands there twice is found at its first place.
    """

    def __init__(self, among: pa.StringArray) -> None:
        self._among = among
        self._bits: NDArray[np.uint64] | None = _bits(among)
        if self._bits is not None:
            self._order = np.argsort(self._bits, kind="stable")
            self._bits = self._bits[self._order]

    def __call__(self, wanted: pa.StringArray) -> IntArray:
        """As `places`."""
        bits = None if self._bits is None else _bits(wanted)
        if self._bits is None or bits is None or not len(self._bits):
            return self._one_by_one(wanted)
        near = np.searchsorted(self._bits, bits).clip(max=len(self._bits) - 1)
        found = np.where(self._bits[near] == bits, self._order[near], -1)
        for first in range(0, len(found), _ROWS):
            some = found[first : first + _ROWS]
            there = np.flatnonzero(some >= 0)
            mine = wanted.slice(first, _ROWS).take(row_array(there))
            if not mine.equals(self._among.take(row_array(some[there]))):
                return self._one_by_one(wanted)  # different texts have equal bits
        return found

    def _one_by_one(self, wanted: pa.StringArray) -> IntArray:
        first: dict[str, int] = {}
        for place, text in enumerate(self._among.to_pylist()):
            first.setdefault(text, place)
        return np.array([first.get(text, -1) for text in wanted.to_pylist()], np.int64)


def groups(texts: pa.StringArray) -> tuple[IntArray, IntArray]:
    """Equal texts.

    Returns:
        The first place of each distinct text, ``(m,) int64`` ascending, and which of these each
        text is, ``(n,) int64``.
    """
    bits = _bits(texts)
    if bits is not None:
        order = np.argsort(bits, kind="stable")
        new = np.concatenate([[True], bits[order][1:] != bits[order][:-1]])
        starts, again = np.flatnonzero(new), np.flatnonzero(~new)
        number = np.cumsum(new) - 1
        same = texts.take(row_array(order[starts[number[again]]]))
        if texts.take(row_array(order[again])).equals(same):
            by_place = np.argsort(order[starts])
            rank = np.empty_like(by_place)
            rank[by_place] = np.arange(len(by_place))
            of = np.empty_like(order)
            of[order] = rank[number]
            return order[starts][by_place], of
    known: dict[str, int] = {}
    of = np.array([known.setdefault(text, len(known)) for text in texts.to_pylist()], np.int64)
    return np.unique(of, return_index=True)[1], of


def in_order(texts: pa.StringArray) -> IntArray:
    """Places of the texts in the order of the texts, ``(n,) int64``; equal ones as they stand."""
    content = _content(texts)
    if content is None:
        return np.argsort(np.array(texts.to_pylist(), dtype=object), kind="stable")
    return np.argsort(content.view(f"S{_WIDTH}").ravel(), kind="stable")


def _bits(texts: pa.StringArray) -> NDArray[np.uint64] | None:
    """64 bits of each text, ``(n,)``; None where not all have the length of an id."""
    content = _content(texts)
    return None if content is None else content.view("<u8") @ _ODD  # modulo 2 ** 64


def _content(texts: pa.StringArray) -> NDArray[np.uint8] | None:
    """The characters, ``(n, 64)``; None without a text, or where not all have as many."""
    _, ends, content = texts.buffers()
    if not len(texts) or content is None:
        return None
    stops = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    if (np.diff(stops) != _WIDTH).any():
        return None
    return np.frombuffer(content, np.uint8)[stops[0] : stops[-1]].reshape(-1, _WIDTH)


_ODD = np.array([pow(0x9E3779B97F4A7C15, power, 2**64) for power in range(1, 9)], np.uint64)
