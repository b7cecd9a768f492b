"""Ids in columns: looked up, told apart and put in order without an object for each."""

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from medfocus_pipeline.columns import joined, numbers, row_array
from medfocus_pipeline.types import IntArray

_WIDTH = 64
"""Characters of a SHA-256, which ids are."""

_ROWS = 1 << 16
"""That are compared at a time."""


class Lookup:
    """Finds texts in a column by 64 bits of each; whether they are equal is looked at after.

    As ``pc.index_in``, which takes three times the memory and longer.

    Args:
        among: the column; a text that stands there twice is found at its first place.
    """

    def __init__(self, among: pa.StringArray) -> None:
        self._among = among

    def __call__(self, wanted: pa.StringArray) -> IntArray:
        """Where texts stand, ``(n,) int64``: the first place, -1 of those that do not."""
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
    if not len(texts) or (numbers(pc.binary_length(texts)) != _WIDTH).any():
        return None
    return np.frombuffer(joined(texts), np.uint8).reshape(-1, _WIDTH)


_ODD = np.array([pow(0x9E3779B97F4A7C15, power, 2**64) for power in range(1, 9)], np.uint64)
