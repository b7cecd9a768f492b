"""Which images a report shows: few, the same every time, and of every class."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfocus_pipeline.report.sampling import DEFAULT, extreme, in_turn, share, stratified
from medfocus_pipeline.seeding import generator


def labels(count: int, classes: int) -> dict[str, int]:
    noise = generator("sampling", count)
    drawn = noise.integers(0, classes, count).tolist()
    return {f"{noise.bytes(8).hex()}": label for label in drawn}


@given(st.integers(min_value=20, max_value=1000))
def test_all_galleries_together_keep_to_the_budget(images: int) -> None:
    parts = share(images)
    assert parts.galleries + 5 * parts.worst + parts.mistakes + 2 * parts.pairs <= images


def test_a_small_budget_shows_something_of_each_part() -> None:
    parts = share(1)
    assert (parts.galleries, parts.worst, parts.mistakes, parts.pairs) == (1, 1, 1, 1)


def test_what_is_shown_of_five_thousand_images_does_not_grow_with_them() -> None:
    many, parts = labels(5000, 4), share(DEFAULT)
    assert len(in_turn(many, parts.galleries)) == parts.galleries <= DEFAULT
    assert len(stratified(many, parts.points)) <= parts.points
    assert len(extreme(dict.fromkeys(many, 0.5), parts.worst)) == parts.worst


def test_classes_take_turns_until_they_are_used_up() -> None:
    found = in_turn({"a": 0, "b": 0, "c": 0, "d": 2, "e": 1}, 4)
    assert found == ["a", "e", "d", "b"]


def test_a_stratified_sample_keeps_the_shares_and_the_rare_classes() -> None:
    many = {f"{n:04d}": 0 for n in range(900)} | {f"x{n:03d}": 1 for n in range(99)} | {"y": 2}
    chosen = stratified(many, 100)
    counts = np.bincount([many[id_] for id_ in chosen])
    assert counts.tolist() == [90, 9, 1]
    assert stratified(dict(reversed(many.items())), 100) == chosen


def test_fewer_images_than_wanted_are_all_taken() -> None:
    assert stratified({"b": 1, "a": 0}, 10) == ["a", "b"]
    assert in_turn({"b": 1, "a": 0}, 10) == ["a", "b"]


@pytest.mark.parametrize("lowest", [True, False])
def test_extremes_come_in_order_and_ties_by_id(lowest: bool) -> None:
    values = {"d": 1.0, "c": 3.0, "b": 1.0, "a": 3.0}
    found = [id_ for id_, _ in extreme(values, 3, lowest=lowest)]
    assert found == (["b", "d", "a"] if lowest else ["a", "c", "b"])
