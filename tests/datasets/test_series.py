"""Slices whose patient nobody named, found by their order and their likeness."""

import numpy as np

from medfocus_pipeline.datasets.series import find_series, series_warning


def slices(*, patients: int, each: int, steps: int) -> dict[str, int]:
    """Hashes of slices in one folder: within a patient some bits change from one to the next.

    Args:
        steps: bits; None of them is shared between patients.
    """
    rng = np.random.default_rng(0)
    found: dict[str, int] = {}
    for patient in range(patients):
        bits = rng.integers(0, 2, 64)
        for number in range(each):
            bits[rng.choice(64, steps, replace=False)] ^= 1
            name = f"glioma/IM{1 + patient * each + number}.png"
            found[name] = int("".join(map(str, bits)), 2)
    return found


def test_slices_of_patients_are_runs_in_the_order_of_their_numbers() -> None:
    series = find_series(slices(patients=12, each=9, steps=3))
    assert series is not None
    assert series.near == 3
    assert series.far > 20
    assert [len(run) for run in series.runs] == [9] * 12
    assert series.runs[1][:2] == ("glioma/IM10.png", "glioma/IM11.png")
    text = series_warning(series)
    assert "108 files are in 12 such runs, the longest 'glioma/IM1.png' to 'glioma/IM9.png'" in text
    assert "column group in a CSV, or patient in the card" in text


def test_images_of_patients_of_their_own_are_no_series() -> None:
    assert find_series(slices(patients=100, each=1, steps=3)) is None


def test_neighbours_as_alike_as_all_the_others_are_no_series() -> None:
    one = {name: bits & 0xFFF for name, bits in slices(patients=60, each=1, steps=3).items()}
    assert find_series(one) is None
    assert find_series(dict.fromkeys(one, 0)) is None


def test_a_handful_of_files_says_nothing() -> None:
    assert find_series(slices(patients=1, each=7, steps=1)) is None
    assert series_warning(None) == ""
