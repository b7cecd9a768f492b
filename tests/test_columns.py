"""Columns of ids give what lists and dictionaries of them give."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfocus_pipeline import ids
from medfocus_pipeline.columns import (
    blank,
    found_at,
    glued,
    id_array,
    in_rows,
    is_empty,
    is_text,
    joined,
    kept,
    kinds,
    number_array,
    recoded,
    replaced,
    taken,
    where,
    which_are,
)
from medfocus_pipeline.ids import Lookup, groups, in_order

IDS = st.lists(
    st.one_of(
        st.integers(0, 20).map(lambda n: hashlib.sha256(bytes([n])).hexdigest()),
        st.integers(0, 20).map(lambda n: f"{n:064x}"),  # these begin alike
    )
)
TEXTS = st.one_of(IDS, st.lists(st.text(max_size=2)))


@given(st.lists(st.text(max_size=4), max_size=5))
def test_ids_are_a_column_like_any(names: list[str]) -> None:
    assert id_array(names).equals(pa.array(names, pa.string()))


@given(TEXTS)
def test_columns_say_what_their_texts_do(texts: list[str]) -> None:
    column = pa.chunked_array([id_array(texts[:1]), id_array(texts[1:])])
    assert is_empty(column).tolist() == [not text for text in texts]
    assert is_text(column, "a").tolist() == [text == "a" for text in texts]
    words, which = kinds(column)
    assert words == list(dict.fromkeys(texts))
    assert [words[n] for n in which] == texts
    rows = np.flatnonzero([len(text) != 1 for text in texts])
    assert kept(column, rows).to_pylist() == [texts[row] for row in rows]
    assert list(in_rows(column, column)) == list(zip(texts, texts, strict=True))
    assert glued("<", id_array(texts), ">").to_pylist() == [f"<{text}>" for text in texts]
    assert bytes(joined(id_array(texts).slice(1))).decode() == "".join(texts[1:])


@given(st.lists(st.tuples(st.text(max_size=2), st.text(max_size=2), st.booleans())))
def test_columns_are_changed_as_their_texts_are(rows: list[tuple[str, str, bool]]) -> None:
    texts, others, mask = ([row[n] for row in rows] for n in range(3))
    column, flags = id_array(texts), np.array(mask, np.bool_)
    chosen = [text if one else other for text, other, one in rows]
    assert where(flags, column, id_array(others)).to_pylist() == chosen
    named = [text if one else "-" for text, _, one in rows]
    assert where(flags, column, "-").to_pylist() == named
    some, new = np.flatnonzero(~flags), [other for _, other, one in rows if not one]
    assert replaced(column, some, new).to_pylist() == chosen
    assert recoded(column, str.upper).to_pylist() == [text.upper() for text in texts]
    assert which_are(column, str.isupper).tolist() == [text.isupper() for text in texts]
    assert blank(len(texts)).equals(pa.array([""] * len(texts), pa.string()))


@given(st.lists(st.lists(st.text(max_size=2), min_size=3), min_size=1), st.data())
def test_rows_are_taken_from_pieces(pieces: list[list[str]], data: st.DataObject) -> None:
    column = pa.chunked_array([id_array(piece) for piece in pieces])
    texts = column.to_pylist()
    begins = st.integers(0, len(texts) - 1)
    runs = data.draw(st.lists(st.tuples(begins, st.sampled_from([1, 2, 30])), max_size=3))
    rows = [row for begin, length in runs for row in range(begin, min(begin + length, len(texts)))]
    assert taken(column, np.array(rows, np.int64)).to_pylist() == [texts[row] for row in rows]


@given(st.lists(st.text(max_size=1)), st.lists(st.text(max_size=1)))
def test_texts_of_any_length_are_found_at_their_first_place(
    wanted: list[str], among: list[str]
) -> None:
    found = found_at(id_array(wanted), id_array(among)).tolist()
    assert found == [among.index(text) if text in among else -1 for text in wanted]


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.float64])
def test_numbers_are_a_column_of_their_type(kind: type[np.number]) -> None:
    numbers = np.arange(6, dtype=kind)[::2]
    assert number_array(numbers).equals(pa.array(numbers.tolist(), pa.from_numpy_dtype(kind)))


def check(wanted: Sequence[str], among: Sequence[str]) -> None:
    expected = pc.index_in(pa.array(wanted, pa.string()), value_set=pa.array(among, pa.string()))
    assert Lookup(id_array(among))(id_array(wanted)).tolist() == expected.fill_null(-1).to_pylist()
    first, number = groups(id_array(among))
    assert [among[place] for place in first] == list(dict.fromkeys(among))
    assert [among[first[n]] for n in number] == list(among)


@given(TEXTS, TEXTS)
def test_texts_are_found_at_their_first_place(wanted: list[str], among: list[str]) -> None:
    check(wanted, among)


def test_texts_of_equal_bits_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody knows two ids of equal bits; here all have them.
    monkeypatch.setattr(ids, "_bits", lambda texts: np.zeros(len(texts), np.uint64))
    names = [f"{n % 5:064x}" for n in range(8)]
    check(names[2:], names[:4])


@given(TEXTS, st.integers(0, 3))
def test_a_column_is_put_in_the_order_of_its_texts(names: list[str], first: int) -> None:
    some = names[first:]
    found = in_order(id_array(names).slice(first)).tolist()
    assert found == sorted(range(len(some)), key=some.__getitem__)
