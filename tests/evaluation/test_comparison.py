from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from medfocus_pipeline.errors import ConfigError, DataError, StoreError
from medfocus_pipeline.evaluation.comparison import compare
from medfocus_pipeline.evaluation.significance import mcnemar, mcnemar_by_image
from medfocus_pipeline.types import JSON
from tests.evaluation.predictions import predictions, result

LABELS = [0, 1] * 30


def runs(
    name: str, rights: Sequence[Sequence[bool]], *, fraction: float = 10.0
) -> tuple[list[JSON], pa.Table]:
    """One run a seed, which answers right where it says so."""
    keys = [f"{name}-{fraction}-{seed}" for seed in range(len(rights))]
    tables = [
        predictions(
            key, [y if hit else 1 - y for y, hit in zip(LABELS, right, strict=True)], LABELS
        )
        for key, right in zip(keys, rights, strict=True)
    ]
    rows = [result(key, seed, fraction=fraction) for seed, key in enumerate(keys)]
    return rows, pa.concat_tables(tables)


def draws(chance: float, *, seeds: int = 10, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, len(LABELS))) < chance


def test_a_better_row_is_marked_and_an_equal_one_is_not() -> None:
    base, base_answers = runs("base", draws(0.6))
    good, good_answers = runs("good", draws(0.95, seed=1))
    same, same_answers = runs("same", draws(0.6, seed=2))
    table = pa.concat_tables([same_answers, base_answers, good_answers])
    found = compare({"base": base, "good": good, "same": same}, table, reference="base")
    assert [one.label for one in found] == ["good", "same"]
    better, equal = found
    assert (better.budget, better.seeds, better.reference) == (("fraction", 10.0), 10, "base")
    assert better.mark == "▲"
    assert equal.mark == ""
    [worse] = compare({"base": base, "good": good}, table, reference="good")
    assert worse.mark == "▼"
    assert worse.difference == -better.difference
    assert (worse.wins, worse.losses) == (better.losses, better.wins)


def test_the_numbers_are_those_of_the_single_tests() -> None:
    ours, theirs = draws(0.9, seeds=6), draws(0.7, seeds=6, seed=1)
    base, base_answers = runs("base", theirs)
    own, own_answers = runs("own", ours)
    table = pa.concat_tables([own_answers, base_answers])
    [found] = compare({"base": base, "own": own}, table, reference="base")
    gaps = ours.astype(int) - theirs
    assert found.difference == pytest.approx(gaps.mean())
    assert (found.wins, found.losses) == ((gaps == 1).sum(), (gaps == -1).sum())
    assert found.pooled.p == mcnemar(found.wins, found.losses) == found.pooled.holm
    assert found.images.p == mcnemar_by_image(gaps.sum(axis=0))
    assert found.interval is not None
    assert found.interval.low < found.difference < found.interval.high


def test_seeds_that_copy_one_another_count_once() -> None:
    ours, theirs = draws(0.9, seeds=1), draws(0.7, seeds=1, seed=1)
    base, base_answers = runs("base", np.repeat(theirs, 10, axis=0), fraction=100.0)
    own, own_answers = runs("own", np.repeat(ours, 10, axis=0), fraction=100.0)
    table = pa.concat_tables([own_answers, base_answers])
    [found] = compare({"base": base, "own": own}, table, reference="base")
    gaps = ours.astype(int) - theirs
    assert found.seeds == 10
    assert found.wins + found.losses == np.abs(gaps).sum()
    assert found.pooled.p == pytest.approx(found.images.p)
    assert np.isnan([found.over_seeds.p, found.over_seeds.holm]).all()
    assert found.interval is None
    assert found.significant == (found.pooled.p < 0.05)


def test_every_budget_is_compared_and_all_are_one_family() -> None:
    rows: dict[str, list[JSON]] = {"base": [], "own": []}
    tables = []
    for fraction in (5.0, 50.0):
        for name, chance, seed in (("base", 0.6, 1), ("own", 0.8, 2)):
            own, answers = runs(name, draws(chance, seed=seed), fraction=fraction)
            rows[name] += own
            tables.append(answers)
    found = compare(rows, pa.concat_tables(tables), reference="base")
    assert [one.budget for one in found] == [("fraction", 5.0), ("fraction", 50.0)]
    assert [one.pooled.holm for one in found] == pytest.approx([2 * one.pooled.p for one in found])


def test_a_comparison_does_not_depend_on_the_others() -> None:
    base, base_answers = runs("base", draws(0.6))
    own, own_answers = runs("own", draws(0.7, seed=1))
    more, more_answers = runs("more", draws(0.8, seed=2))
    table = pa.concat_tables([base_answers, own_answers, more_answers])
    [alone] = compare({"base": base, "own": own}, table, reference="base")
    _, together = compare({"more": more, "base": base, "own": own}, table, reference="base")
    assert together.over_seeds.p == alone.over_seeds.p
    assert together.interval == alone.interval


def test_only_seeds_of_both_rows_are_paired() -> None:
    base, base_answers = runs("base", draws(0.6, seeds=4))
    own, own_answers = runs("own", draws(0.8, seeds=10, seed=1))
    other, other_answers = runs("other", draws(0.8, seeds=2), fraction=50.0)
    table = pa.concat_tables([base_answers, own_answers, other_answers])
    [found] = compare({"base": base, "own": own, "other": other}, table, reference="base")
    assert (found.label, found.seeds) == ("own", 4)


def test_images_are_paired_by_id_and_label_whatever_their_order() -> None:
    labels, ids = [0, 1, 1, 0], ["a", "b", "a", "c"]
    first = predictions("one", [0, 1, 0, 0], labels, ids=ids)
    turned = predictions("two", [1, 1, 1, 1], labels[::-1], ids=ids[::-1])
    rows = {"one": [result("one", 0)], "two": [result("two", 0)]}
    [found] = compare(rows, pa.concat_tables([first, turned]), reference="two")
    # a as 0: only one; b: both; a as 1: only two; c: only one
    assert (found.wins, found.losses) == (2, 1)


def test_clean_leaves_images_out_that_are_in_training() -> None:
    clean = [True, True, False, False]
    own = predictions("own", [0, 1, 0, 0], [0, 0, 0, 0], clean=clean)
    base = predictions("base", [1, 0, 1, 1], [0, 0, 0, 0], clean=clean)
    rows = {"own": [result("own", 0)], "base": [result("base", 0)]}
    table = pa.concat_tables([own, base])
    [every] = compare(rows, table, reference="base")
    [some] = compare(rows, table, reference="base", clean=True)
    assert (every.wins, every.losses, every.difference) == (3, 1, 0.5)
    assert (some.wins, some.losses, some.difference) == (1, 1, 0)
    dirty = pa.concat_tables([predictions(key, [0], [0], clean=[False]) for key in ("own", "base")])
    assert compare(rows, dirty, reference="base", clean=True) == []


def test_what_cannot_be_compared_is_refused() -> None:
    base, base_answers = runs("base", draws(0.6, seeds=1))
    with pytest.raises(ConfigError, match="no row 'linear' to compare with: choose one of base"):
        compare({"base": base}, base_answers, reference="linear")
    other = predictions("other", [0], [0])
    rows = {"base": base, "other": [result("other", 0)]}
    with pytest.raises(DataError, match="'other' and 'base' were tested on different images"):
        compare(rows, pa.concat_tables([base_answers, other]), reference="base")
    with pytest.raises(StoreError, match=r"1 of 2 runs have a result and no predictions"):
        compare(rows, base_answers, reference="base")
    mixed = {"base": [*base, result("other", 0)]}
    with pytest.raises(DataError, match=r"'base' has two runs of fraction 10 and seed 0"):
        compare(mixed, base_answers, reference="base")
