from itertools import product
from math import comb

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from medfocus_pipeline.evaluation.intervals import (
    Interval,
    auroc_interval,
    mean_interval,
    patient_interval,
    t_interval,
    t_within,
    wilson_interval,
)
from medfocus_pipeline.evaluation.significance import (
    holm,
    mcnemar,
    mcnemar_by_image,
    paired_bootstrap,
    paired_t,
)
from medfocus_pipeline.evaluation.statistics import curve_area, curve_areas, scores_by_budget
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.types import JSON

NAN = float("nan")


def row(seed: int, amount: float, accuracy: float | None, *, shots: bool = False) -> JSON:
    places = {"fraction": None, "shots": int(amount)} if shots else {"fraction": amount}
    return {"shots": None, **places, "seed": seed, "accuracy": accuracy}


def test_the_interval_of_a_mean_is_students() -> None:
    found = t_interval(np.array([0.5, 0.7, 0.9]))
    # t(0.975, 2) = 4.302653; s = 0.2
    half = 4.302652729911275 * 0.2 / 3**0.5
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0.7 - half), pytest.approx(0.7 + half))


@pytest.mark.parametrize("values", [[], [0.8], [0.8] * 10, [0.1] * 3, [0.5, NAN, 0.7]])
def test_seeds_that_say_nothing_have_no_interval(values: list[float]) -> None:
    assert t_interval(np.array(values)) is None


def test_scores_stand_by_budget_in_the_order_of_seeds() -> None:
    rows = [row(2, 5, 0.3), row(0, 5, 0.1), row(0, 4, 0.7, shots=True), row(1, 5, None)]
    found = scores_by_budget(rows)
    assert list(found) == [("fraction", 5), ("shots", 4)]
    np.testing.assert_array_equal(found["fraction", 5], [0.1, NAN, 0.3])


def test_mcnemar_gives_the_published_values() -> None:
    # Fagerland et al. 2013: 1 and 7 discordant pairs, exact 0.070.
    assert mcnemar(1, 7) == mcnemar(7, 1) == pytest.approx(18 / 256)


def test_mcnemar_is_exact_for_many_pairs_too() -> None:
    expected = 2 * sum(comb(900, k) for k in range(421)) / 2**900
    assert mcnemar(420, 480) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_without_a_difference_is_certain_of_nothing() -> None:
    assert mcnemar(0, 0) == mcnemar(5, 5) == 1


def test_by_image_is_the_sum_over_all_signs() -> None:
    differences = np.array([3, -1, 2, 2, 0, 1])
    sums = [np.dot(signs, differences) for signs in product((-1, 1), repeat=6)]
    expected = np.mean(np.abs(sums) >= abs(differences.sum()))
    assert mcnemar_by_image(differences) == pytest.approx(expected)


@settings(max_examples=40)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 10))
def test_by_image_with_one_seed_or_copies_of_it_is_mcnemars(
    wins: int, losses: int, copies: int
) -> None:
    differences = np.array([copies] * wins + [-copies] * losses + [0] * 3)
    assert mcnemar_by_image(differences) == pytest.approx(mcnemar(wins, losses))


def test_pooling_is_surer_than_votes_of_images() -> None:
    differences = np.array([5, 5, 5, -4])
    assert mcnemar(15, 4) < 0.05 < mcnemar_by_image(differences)


def test_equal_generators_give_equal_bytes() -> None:
    differences = np.random.default_rng(0).normal(0.01, 0.02, 10)
    first, second = (paired_bootstrap(differences, generator("test", 0)) for _ in range(2))
    assert first == second
    assert first != paired_bootstrap(differences, generator("test", 1))


def test_a_clear_difference_over_seeds_is_found_and_its_sign_does_not_matter() -> None:
    differences = 0.05 + np.random.default_rng(0).normal(0, 0.01, 10)
    p, interval = paired_bootstrap(differences, generator("test"))
    mirrored, reflected = paired_bootstrap(-differences, generator("test"))
    assert p == mirrored < 0.001
    assert interval is not None
    assert 0 < interval.low < 0.05 < interval.high < 0.1
    assert reflected == Interval(-interval.high, -interval.low)


def test_the_bootstrap_rejects_a_true_hypothesis_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    p_values = [
        paired_bootstrap(rng.normal(0, 1, 10) / 50, rng, resamples=400)[0] for _ in "x" * 400
    ]
    assert 0.02 < np.mean(np.array(p_values) < 0.05) < 0.08


@pytest.mark.parametrize("count", [2, 3])
def test_two_or_three_seeds_prove_nothing(count: int) -> None:
    differences = np.linspace(0.1, 0.102, count)
    p, interval = paired_bootstrap(differences, generator("test"))
    assert p > 0.05
    assert interval == Interval(-1, 1)


@pytest.mark.parametrize("differences", [[], [0.1], [0.1, 0.1, 0.1], [0.0] * 10])
def test_differences_without_a_spread_have_no_test(differences: list[float]) -> None:
    p, interval = paired_bootstrap(np.array(differences), generator("test"))
    assert np.isnan(p)
    assert interval is None


def test_students_paired_test_is_scipys() -> None:
    differences = generator("test").normal(0.05, 0.1, 8)
    p, interval = paired_t(differences)
    expected = scipy.stats.ttest_1samp(differences, 0)
    low, high = expected.confidence_interval(0.95)
    assert p == pytest.approx(expected.pvalue)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((low, high))
    alike, nothing = paired_t(np.full(5, 0.2))
    assert np.isnan(alike)
    assert nothing is None


def test_five_seeds_that_agree_are_significant_among_sixty_comparisons_of_a_matrix() -> None:
    differences = np.array([0.26, 0.27, 0.28, 0.27, 0.29])
    drawn, _ = paired_bootstrap(differences, generator("test"))
    student, _ = paired_t(differences)
    by_chance = [0.5] * 59
    assert min(holm([drawn, *by_chance])) > 0.05, "the bootstrap of five seeds has a floor"
    assert min(holm([student, *by_chance])) < 0.05


def test_holm_multiplies_the_smallest_most() -> None:
    assert holm([0.04, 0.01, 0.03, 0.5]) == pytest.approx([0.09, 0.04, 0.09, 0.5])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_what_says_nothing_is_no_member_of_the_family() -> None:
    found = holm([0.02, NAN, 0.01])
    assert np.isnan(found[1])
    assert found[::2] == pytest.approx([0.02, 0.02])


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_keeps_the_order_and_is_between_p_and_bonferroni(p_values: list[float]) -> None:
    found = holm(p_values)
    for p, corrected in zip(p_values, found, strict=True):
        assert p <= corrected <= min(1, p * len(p_values)) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.array(found)[order]) >= 0).all()


def test_the_area_is_that_of_trapezoids_over_the_logarithm() -> None:
    # ln 1, ln 10, ln 100: two pieces of equal width
    assert curve_area([100, 1, 10], [1.0, 0.2, 0.6]) == pytest.approx((0.4 + 0.8) / 2)
    assert curve_area([5, 10, 20, 50, 100], [0.7] * 5) == pytest.approx(0.7)
    assert np.isnan(curve_area([5], [0.7]))


def test_every_seed_has_its_area_and_half_a_curve_has_none() -> None:
    rows = [row(seed, amount, 0.1 * (seed + 1)) for seed in range(3) for amount in (5, 50)]
    rows += [row(0, 4, 0.9, shots=True), row(3, 5, 0.9)]
    assert curve_areas(rows) == pytest.approx([0.1, 0.2, 0.3])
    assert np.isnan(curve_areas(rows, kind="shots")).all()
    assert len(curve_areas([])) == 0


@pytest.mark.parametrize(("right", "count"), [(0, 7), (42, 48), (48, 48), (1, 2), (150, 300)])
def test_wilsons_interval_is_scipys(right: int, count: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(right, count).proportion_ci(0.95, method="wilson")
    found = wilson_interval(right / count, count)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_without_a_test_image_there_is_no_wilson_interval() -> None:
    assert np.isnan(wilson_interval(0.5, 0).low)


def test_slices_of_one_patient_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    by_patient = np.repeat(rng.random(20) < 0.8, 10).astype(float)  # a patient is right or wrong
    patients = [f"P{n // 10}" for n in range(200)]
    together = patient_interval(by_patient, patients, np.random.default_rng(1))
    alone = patient_interval(by_patient, [""] * 200, np.random.default_rng(1))
    wilson = wilson_interval(float(by_patient.mean()), 200)
    share = by_patient.mean()
    assert together.high - together.low > 2.5 * (alone.high - alone.low)
    assert (alone.low, alone.high) == pytest.approx((wilson.low, wilson.high), abs=0.02)
    # The normal approximation for 20 independent patients.
    half = 1.96 * (share * (1 - share) / 20) ** 0.5
    assert together.high - together.low == pytest.approx(2 * half, rel=0.15)


def test_no_mistake_has_an_interval_of_as_many_images_as_patients() -> None:
    right = patient_interval(
        np.ones(50), [f"P{n // 10}" for n in range(50)], np.random.default_rng(0)
    )
    assert right == wilson_interval(1.0, 5)


def test_the_interval_of_one_share_is_wilsons_and_of_two_groups_narrower() -> None:
    alone, wilson = mean_interval(0.8, [40]), wilson_interval(0.8, 40)
    assert (alone.low, alone.high) == pytest.approx((wilson.low, wilson.high))
    both = mean_interval(0.8, [40, 40])
    assert wilson.low < both.low < 0.8 < both.high < wilson.high


@pytest.mark.parametrize(("area", "negative", "positive"), [(0.75, 40, 60), (0.5, 30, 30)])
def test_an_areas_limits_are_z_of_their_own_standard_errors_away(
    area: float, negative: int, positive: int
) -> None:
    found = auroc_interval(area, negative, positive)
    middle = (negative + positive) / 2 - 1
    for end in (found.low, found.high):
        # Hanley and McNeil 1982 with Q1 = t / (2 - t) and Q2 = 2 t^2 / (1 + t), both counts N + 1.
        first, second = end / (2 - end), 2 * end**2 / (1 + end)
        variance = end * (1 - end) + middle * (first - end**2) + middle * (second - end**2)
        error = (variance / (negative * positive)) ** 0.5
        assert abs(end - area) == pytest.approx(1.959964 * error, abs=2e-3)


def test_an_area_of_one_leaves_something_open() -> None:
    found = auroc_interval(1.0, 30, 30)
    assert found.low < 0.97
    assert found.high == 1.0
    assert np.isnan(auroc_interval(float("nan"), 3, 3).low)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_students_quantile_is_scipys(level: float) -> None:
    for freedom in (1, 2, 3, 4, 9, 10, 49, 1000):
        expected = scipy.stats.t.ppf((1 + level) / 2, freedom)
        assert t_within(level, freedom) == pytest.approx(expected, rel=1e-11)
