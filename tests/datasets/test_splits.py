"""The test split and the nested subsets."""

import hashlib
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medfocus_pipeline.datasets import splits, subsets
from medfocus_pipeline.datasets.manifest import Manifest, build
from medfocus_pipeline.errors import ConfigError, DataError
from medfocus_pipeline.types import IntArray

FRACTIONS = (5.0, 10.0, 20.0, 50.0, 100.0)
SHOTS = (1, 2, 4, 8, 16)


def _id(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def _manifest(
    labels: Sequence[int],
    *,
    ids: Sequence[object] | None = None,
    groups: Sequence[str] | None = None,
    sides: Sequence[str] | None = None,
    problems: Sequence[str] | None = None,
    n_classes: int | None = None,
) -> Manifest:
    n = len(labels)
    names = [f"class {k}" for k in range(n_classes or max(labels, default=0) + 1)]
    rows = zip(
        [_id(x) for x in (ids or range(n))],
        [f"{x}.png" for x in range(n)],
        sides or [""] * n,
        labels,
        [names[label] for label in labels],
        groups or [""] * n,
        *([[""] * n] * 2),
        *([[8] * n] * 2),
        ["RGB"] * n,
        *([[1] * n] * 2),
        problems or [""] * n,
        strict=True,
    )
    return build(list(rows), name="pets", classes=names, from_card=False)


@st.composite
def labelled(draw: st.DrawFn) -> list[int]:
    """Labels of two to four classes, each with two or more images, in any order."""
    counts = draw(st.lists(st.integers(2, 30), min_size=2, max_size=4))
    return draw(st.permutations([k for k, count in enumerate(counts) for _ in range(count)]))


@given(labels=labelled(), share=st.floats(0.05, 0.95), seed=st.integers(0, 3))
def test_drawn_split_is_stratified_and_complete(labels: list[int], share: float, seed: int) -> None:
    split = splits.test_split(_manifest(labels), test_share=share, seed=seed)
    assert sorted([*split.train, *split.test]) == list(range(len(labels)))
    assert not split.official
    for label in set(labels):
        total = labels.count(label)
        tested = int((np.array(labels)[split.test] == label).sum())
        assert 1 <= tested < total
        assert abs(tested - share * total) <= 1


@pytest.mark.parametrize("official", [True, False])
def test_synthetic_images_train_and_never_test(official: bool) -> None:
    sides = (["train", "test"] if official else ["", ""]) * 4 + ["synthetic"] * 4
    labels = [0, 0, 1, 1] * 3
    split = splits.test_split(_manifest(labels, sides=sides), test_share=0.5, seed=0)
    assert set(split.train) > {8, 9, 10, 11}
    assert split.official == official
    alone = splits.test_split(_manifest(labels[:8], sides=sides[:8]), test_share=0.5, seed=0)
    assert split.test.tolist() == alone.test.tolist()


@given(
    data=st.data(),
    labels=labelled(),
    share=st.floats(0.1, 0.6),
)
def test_no_patient_and_no_copy_is_on_both_sides(
    data: st.DataObject, labels: list[int], share: float
) -> None:
    n = len(labels)
    groups = data.draw(st.lists(st.sampled_from(["", *"abcdefgh"]), min_size=n, max_size=n))
    ids = data.draw(st.lists(st.integers(0, 3 * n), min_size=n, max_size=n))
    manifest = _manifest(labels, groups=groups, ids=ids)
    try:
        split = splits.test_split(manifest, test_share=share, seed=0)
    except DataError as error:  # one patient may own a whole data set
        assert "image" in str(error)
        return
    for column in ("group", "image_id"):
        values = np.array(manifest.strings(column))
        shared = set(values[split.train]) & set(values[split.test])
        assert shared <= {""}


@given(data=st.data(), labels=labelled(), seed=st.integers(0, 3))
def test_split_does_not_depend_on_the_order_of_files(
    data: st.DataObject, labels: list[int], seed: int
) -> None:
    n = len(labels)
    groups = data.draw(st.lists(st.sampled_from(["", *"abcdefghijklm"]), min_size=n, max_size=n))
    order = data.draw(st.permutations(range(n)))

    def tested(rows: Sequence[int]) -> set[str] | str:
        manifest = _manifest(
            [labels[r] for r in rows],
            ids=list(rows),
            groups=[groups[r] for r in rows],
            n_classes=max(labels) + 1,
        )
        try:
            split = splits.test_split(manifest, test_share=0.3, seed=seed)
        except DataError as error:
            return str(error)
        return {manifest.image_ids[row] for row in split.test}

    assert tested(range(n)) == tested(order)


def test_images_that_are_by_themselves_are_drawn_as_units_are() -> None:
    """A unit of two images of class 2 beside them: the way that looks at each unit in turn."""
    labels = np.random.default_rng(0).integers(0, 2, 60)
    alone = splits._draw(np.arange(60), labels, 0.3, Firsts())
    beside = splits._draw(
        np.append(np.arange(60), [60, 60]), np.append(labels, [2, 2]), 0.3, Firsts()
    )
    np.testing.assert_array_equal(alone, beside[:60])
    assert alone.sum() == sum(int(0.3 * size + 0.5) for size in np.bincount(labels))


class Firsts(np.random.Generator):
    """Permutes as it is told: by what a number's digits say backwards."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def permutation(self, count: int) -> np.ndarray:
        return np.array(sorted(range(count), key=lambda number: f"{number:06d}"[::-1]))


def test_seed_changes_the_split() -> None:
    manifest = _manifest([0, 1] * 30)
    drawn = [splits.test_split(manifest, test_share=0.3, seed=seed).test for seed in (0, 0, 1)]
    assert drawn[0].tolist() == drawn[1].tolist() != drawn[2].tolist()


def test_official_split_is_taken_as_it_is() -> None:
    sides = ["train", "test", "train", "test", "train"]
    manifest = _manifest([0, 0, 1, 1, 1], sides=sides, problems=["", "", "", "", "is empty"])
    split = splits.test_split(manifest, test_share=0.9, seed=1)
    assert (split.train.tolist(), split.test.tolist(), split.official) == ([0, 2], [1, 3], True)


def test_class_with_one_image_trains() -> None:
    split = splits.test_split(_manifest([0] * 10 + [1]), test_share=0.5, seed=0)
    assert 10 in split.train


def test_class_of_one_patient_trains(caplog: pytest.LogCaptureFixture) -> None:
    manifest = _manifest([0] * 10 + [1] * 10, groups=[""] * 10 + ["p"] * 10)
    split = splits.test_split(manifest, test_share=0.5, seed=0)
    assert set(range(10, 20)) <= set(split.train.tolist())
    assert "'class 1' has no test image" in caplog.text


def test_large_patients_are_tested_when_no_small_one_is_there() -> None:
    groups = [f"p{n // 5}" for n in range(20)]
    manifest = _manifest([0] * 10 + [1] * 10, groups=groups)
    split = splits.test_split(manifest, test_share=0.2, seed=0)
    assert len(split.test) == 10


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (_manifest([]), "no usable image among 0 files"),
        (_manifest([0], problems=["is empty"]), r"no usable image among 1 files.*0\.png is empty"),
        (_manifest([0, 0]), "one class only, 'class 0'.*folder of its own"),
        (_manifest([0, 0], n_classes=2), "no usable image of 'class 1'.*class out of the card"),
        (_manifest([0, 1]), "can be spared for testing"),
        (_manifest([0, 1, 0, 1], groups=["p"] * 4), "can be spared for testing"),
        (_manifest([0, 1], sides=["train"] * 2), "has no usable test image.*splits out"),
        (_manifest([0, 1], sides=["test"] * 2), "has no usable training image"),
        (_manifest([0, 1], sides=["train", "test"]), "no training image of 'class 1'"),
    ],
)
def test_data_that_cannot_be_split_is_refused_with_the_fix(
    manifest: Manifest, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        splits.test_split(manifest, test_share=0.3, seed=0)


def _subsets(ids: Sequence[str], labels: IntArray, seed: int) -> dict[subsets.Budget, IntArray]:
    return subsets.nested_subsets(ids, labels, fractions=FRACTIONS, shots=SHOTS, seed=seed)


@given(labels=labelled(), seed=st.integers(0, 3))
def test_subsets_are_nested_and_stratified(labels: list[int], seed: int) -> None:
    array = np.array(labels)
    subsets = _subsets([_id(n) for n in range(len(labels))], array, seed)
    for kind, amounts in (("fraction", FRACTIONS), ("shots", SHOTS)):
        smaller: set[int] = set()
        for amount in amounts:
            chosen = subsets[kind, amount]  # type: ignore[index]
            assert (np.diff(chosen) > 0).all()
            assert smaller <= set(chosen.tolist())
            smaller = set(chosen.tolist())
            for label in set(labels):
                total, taken = labels.count(label), int((array[chosen] == label).sum())
                assert taken >= 1
                if kind == "fraction":
                    assert abs(taken - amount / 100 * total) <= 1
                else:
                    assert taken == min(amount, total)
    assert len(subsets["fraction", 100.0]) == len(labels)


@given(data=st.data(), labels=labelled(), seed=st.integers(0, 3))
def test_subsets_do_not_depend_on_the_order_of_images(
    data: st.DataObject, labels: list[int], seed: int
) -> None:
    ids = [_id(n) for n in range(len(labels))]
    order = data.draw(st.permutations(range(len(labels))))
    one = _subsets(ids, np.array(labels), seed)
    other = _subsets([ids[n] for n in order], np.array(labels)[order], seed)
    for budget, chosen in one.items():
        assert {ids[n] for n in chosen} == {ids[order[n]] for n in other[budget]}


def test_seeds_draw_different_subsets() -> None:
    labels = np.arange(100) % 2
    ids = [_id(n) for n in range(100)]
    drawn = {tuple(_subsets(ids, labels, seed)["fraction", 5.0]) for seed in range(5)}
    assert len(drawn) == 5


def test_numbers_out_of_range_are_refused_together() -> None:
    with pytest.raises(ConfigError, match=r"0 %, 120 %, 0 shots"):
        subsets.nested_subsets(["a"], np.zeros(1, int), fractions=(0, 120), shots=(0,), seed=0)


@given(st.lists(st.tuples(st.sampled_from(["", *"abcdef"]), st.sampled_from(["", *"uvwxyz"]))))
def test_what_belongs_together_is_what_scipy_connects(rows: list[tuple[str, str]]) -> None:
    links = [
        (one, other)
        for one, other in itertools.combinations(range(len(rows)), 2)
        if any(word and word == rows[other][which] for which, word in enumerate(rows[one]))
    ]
    edges = np.array(links, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(links)), tuple(edges)), shape=(len(rows), len(rows)))
    expected = connected_components(graph, directed=False)[1] if rows else np.zeros(0)
    found = splits.connected([[one for one, _ in rows], [other for _, other in rows]])
    assert [list(expected).index(one) for one in expected] == [
        list(found).index(one) for one in found
    ]
    assert list(dict.fromkeys(found.tolist())) == list(range(len(set(found.tolist()))))
