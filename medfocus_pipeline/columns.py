"""Columns of Arrow as NumPy arrays, and made of them.

``to_numpy`` and ``pa.array`` of a list import pandas where it is installed: half a second.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from medfocus_pipeline.types import IntArray

Ids: TypeAlias = Sequence[str] | pa.StringArray
"""Ids of rows; a column has each once."""

_RUN = 8
"""Rows that follow one another, from which on they are copied at once."""

_ROWS = 1 << 16
"""Of which the values are made at a time."""


def id_array(values: Sequence[str]) -> pa.StringArray:
    """Texts as a column, of up to 33 million ids."""
    content = "".join(values)
    parts = values if content.isascii() else [text.encode() for text in values]
    ends = np.zeros(len(values) + 1, np.int32)
    np.cumsum(np.fromiter(map(len, parts), np.int32, len(values)), out=ends[1:])
    buffers = pa.py_buffer(ends), pa.py_buffer(content.encode())
    return pa.StringArray.from_buffers(len(values), *buffers)


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


def blank(rows: int) -> pa.StringArray:
    """As many empty texts."""
    return pa.StringArray.from_buffers(rows, pa.py_buffer(bytes(4 * rows + 4)), pa.py_buffer(b""))


def spread(words: Sequence[str], which: IntArray) -> pa.StringArray:
    """One of few words in each row, as `kinds` tells them apart."""
    return id_array(words).take(row_array(which))


def recoded(texts: pa.ChunkedArray | pa.Array, word: Callable[[str], str]) -> pa.StringArray:
    """The texts, each of the different ones changed alike."""
    words, which = kinds(texts)
    return spread([word(one) for one in words], which)


def replaced(texts: pa.StringArray, rows: IntArray, others: Sequence[str]) -> pa.StringArray:
    """The texts, with others in some rows."""
    order = np.arange(len(texts))
    order[rows] = len(texts) + np.arange(len(rows))
    return pa.concat_arrays([texts, id_array(others)]).take(row_array(order))


def where(
    mask: NDArray[np.bool_], texts: pa.StringArray | str, others: pa.StringArray | str
) -> pa.StringArray:
    """Texts where the mask is true, else the others; one may stand for all rows."""
    bits = pa.py_buffer(np.packbits(mask, bitorder="little").tobytes())
    known = pa.BooleanArray.from_buffers(pa.bool_(), len(mask), [None, bits])
    both = (scalar(one) if isinstance(one, str) else one for one in (texts, others))
    return pc.if_else(known, *both)


def row_array(rows: IntArray) -> pa.Int64Array:
    """Row numbers, for ``take``."""
    return number_array(np.asarray(rows, np.int64))


def number_array(values: NDArray[Any]) -> pa.Array:
    """Numbers as a column of their own type, without nulls."""
    kind, buffer = pa.from_numpy_dtype(values.dtype), pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(kind, len(values), [None, buffer])


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


def taken(column: pa.ChunkedArray, rows: IntArray) -> pa.Array:
    """Some rows of a column in pieces, which ``take`` would join first; best of long runs."""
    first = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
    if len(first) > len(rows) // _RUN:
        return whole(column.take(row_array(rows)))
    lengths = np.diff(first, append=len(rows))
    runs = [column.slice(*run) for run in zip(rows[first].tolist(), lengths.tolist(), strict=True)]
    return whole(pa.chunked_array([piece for run in runs for piece in run.chunks], column.type))


def is_empty(column: pa.ChunkedArray | pa.Array) -> NDArray[np.bool_]:
    """Of which rows the text is empty, ``(n,) bool``."""
    empty: NDArray[np.bool_] = numbers(pc.binary_length(column)) == 0
    return empty


def flags(column: pa.ChunkedArray | pa.Array) -> NDArray[np.bool_]:
    """A column of yes and no without nulls, ``(n,) bool``; DLPack knows no bits."""
    found: NDArray[np.bool_] = numbers(column.cast(pa.uint8())) == 1
    return found


def is_text(column: pa.ChunkedArray | pa.Array, text: str) -> NDArray[np.bool_]:
    """Of which rows the text is this one, ``(n,) bool``."""
    return flags(pc.equal(column, scalar(text)))


def kinds(column: pa.ChunkedArray | pa.Array) -> tuple[list[str], IntArray]:
    """The different texts, as they first appear, and which of them each row has, ``(n,) int64``."""
    coded = whole(whole(column).dictionary_encode())
    return coded.dictionary.to_pylist(), numbers(coded.indices).astype(np.int64)


def which_are(texts: pa.Array, wanted: Callable[[str], bool]) -> NDArray[np.bool_]:
    """Of which rows this holds, ``(n,) bool``; asked once of each different text."""
    words, which = kinds(texts)
    return np.array([wanted(word) for word in words], np.bool_)[which]


def in_rows(*columns: pa.ChunkedArray | pa.Array) -> Iterator[tuple[Any, ...]]:
    """The values of columns, row by row, of which few are ever held."""
    for first in range(0, len(columns[0]), _ROWS):
        yield from zip(*(one.slice(first, _ROWS).to_pylist() for one in columns), strict=True)


def found_at(wanted: pa.StringArray, among: pa.StringArray) -> IntArray:
    """Where texts of any length stand in a column: the first place, -1 of those that do not."""
    found = pc.index_in(wanted, value_set=among)
    rows = np.frombuffer(found.buffers()[1] or b"", np.int32)[: len(found)]
    return np.where(flags(found.is_valid()), rows, -1).astype(np.int64)


def joined(texts: pa.StringArray) -> memoryview:
    """The UTF-8 bytes of the texts, one after the other, without a copy."""
    _, ends, content = texts.buffers()
    stops = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return memoryview(content or b"")[stops[0] : stops[-1]]
