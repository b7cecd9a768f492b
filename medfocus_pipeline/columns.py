"""Columns of Arrow as NumPy arrays, and looking ids up in them without an object for each.

``to_numpy`` and ``pa.array`` of a list import pandas where it is installed: half a second.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
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


def as_column(values: Ids) -> pa.StringArray:
    """Ids as a column."""
    return values if isinstance(values, pa.StringArray) else id_array(values)


def scalar(text: str) -> pa.StringScalar:
    """A text as Arrow takes it; ``pa.scalar`` imports pandas too."""
    return id_array([text])[0]


def glued(*texts: pa.StringArray | str) -> pa.StringArray:
    """Texts of each row, joined."""
    parts = [scalar(one) if isinstance(one, str) else one for one in texts]
    return pc.binary_join_element_wise(*parts, scalar(""))


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


def kept(column: pa.ChunkedArray | pa.Array, rows: IntArray) -> pa.Array:
    """Some rows of a column, ascending; without a copy where they are all of them."""
    return whole(column if len(rows) == len(column) else column.take(row_array(rows)))


def is_empty(column: pa.ChunkedArray | pa.Array) -> NDArray[np.bool_]:
    """Of which rows the text is empty, ``(n,) bool``."""
    empty: NDArray[np.bool_] = numbers(pc.binary_length(column)) == 0
    return empty


def is_text(column: pa.ChunkedArray | pa.Array, text: str) -> NDArray[np.bool_]:
    """Of which rows the text is this one, ``(n,) bool``."""
    same: NDArray[np.bool_] = numbers(pc.equal(column, scalar(text)).cast(pa.uint8())) == 1
    return same


def kinds(column: pa.ChunkedArray | pa.Array) -> tuple[list[str], IntArray]:
    """The different texts, as they first appear, and which of them each row has, ``(n,) int64``."""
    coded = whole(whole(column).dictionary_encode())
    return coded.dictionary.to_pylist(), numbers(coded.indices).astype(np.int64)


def in_rows(*columns: pa.ChunkedArray | pa.Array) -> Iterator[tuple[Any, ...]]:
    """The values of columns, row by row, of which few are ever held."""
    for first in range(0, len(columns[0]), _ROWS):
        yield from zip(*(one.slice(first, _ROWS).to_pylist() for one in columns), strict=True)


def joined(texts: pa.StringArray) -> memoryview:
    """The UTF-8 bytes of the texts, one after the other, without a copy."""
    _, ends, content = texts.buffers()
    stops = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return memoryview(content or b"")[stops[0] : stops[-1]]


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

    def __call__(self, wanted: pa.StringArray) -> IntArray:
        """As `places`."""
        bits = None if self._sorted is None else _bits(wanted)
        if self._sorted is None or bits is None:
            return self._one_by_one(wanted)
        known, order = self._sorted
        near = np.searchsorted(known, bits).clip(max=len(known) - 1)
        found = np.where(known[near] == bits, order[near], -1)
        for first in range(0, len(found), _ROWS):
            some = found[first : first + _ROWS]
            there = np.flatnonzero(some >= 0)
            mine = wanted.slice(first, _ROWS).take(row_array(there))
            if not mine.equals(self._among.take(row_array(some[there]))):
                return self._one_by_one(wanted)  # different texts have equal bits
        return found

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.uint64], IntArray] | None:
        """Bits of the texts, ascending, and their places."""
        bits = _bits(self._among)
        if bits is None:
            return None
        order = np.argsort(bits, kind="stable")
        return bits[order], order

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
    if bits is not None and _differ(bits):
        everyone = np.arange(len(texts))
        return everyone, everyone
    if bits is not None:
        order = np.argsort(bits, kind="stable")
        bits = bits[order]
        new = np.concatenate([[True], bits[1:] != bits[:-1]])
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
    of = numbers(texts.dictionary_encode().indices).astype(np.int64)  # as they first appear
    return np.unique(of, return_index=True)[1], of


def in_order(texts: pa.StringArray) -> IntArray:
    """Places of the texts in the order of the texts, ``(n,) int64``; equal ones as they stand."""
    content = _content(texts)
    if content is None:
        return np.argsort(np.array(texts.to_pylist(), dtype=object), kind="stable")
    begin = np.ascontiguousarray(content[:, :8]).view(">u8").ravel().astype(np.uint64)
    order = np.argsort(begin, kind="stable")
    begin = begin[order]
    same = begin[1:] == begin[:-1]
    tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False))
    texts_of = content[order[tied]].view(f"S{_WIDTH}").ravel()
    order[tied] = order[tied][np.argsort(texts_of, kind="stable")]
    return order


def _bits(texts: pa.StringArray) -> NDArray[np.uint64] | None:
    """64 bits of each text, ``(n,)``; None where not all have the length of an id."""
    content = _content(texts)
    return None if content is None else content.view("<u8") @ _ODD  # modulo 2 ** 64


def _differ(bits: NDArray[np.uint64]) -> bool:
    """Whether no two are equal."""
    ordered = np.sort(bits)
    return bool((ordered[1:] != ordered[:-1]).all())


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
