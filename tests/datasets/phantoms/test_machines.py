"""One disease in the manner of several machines."""

from pathlib import Path

import numpy as np
import pytest

from medfocus_pipeline.datasets.phantoms.folder import PhantomSet, by_machines
from medfocus_pipeline.datasets.phantoms.machines import MACHINES
from medfocus_pipeline.datasets.phantoms.phantom import CHEST, draw
from medfocus_pipeline.errors import ConfigError
from tests.stages.conftest import Medfocus, medfocus

__all__ = ["medfocus"]

SMALL = ("--train", "4", "--test", "2", "--size", "32", "--workers", "1")


@pytest.mark.parametrize("machine", MACHINES)
def test_a_machine_shows_the_same_body_in_its_own_manner(machine: str) -> None:
    plain, shown = (draw(CHEST, 0, 1, size=64, machine=one) for one in (None, machine))
    assert shown.label == plain.label == "Pneumonia"
    assert shown.image.shape == plain.image.shape
    assert shown.image.dtype == np.uint8
    assert shown.lesion.any()
    assert all(part.any() for part in shown.parts)
    assert np.abs(shown.image.astype(int) - plain.image).mean() > 1
    np.testing.assert_array_equal(shown.image, draw(CHEST, 0, 1, size=64, machine=machine).image)


def test_some_pictures_of_one_machine_are_stored_inverted_and_none_of_another() -> None:
    def dark_lungs(machine: str, index: int) -> bool:
        seen = draw(CHEST, 0, index, size=64, machine=machine)
        grey, lungs = seen.image[..., 0], seen.parts[-1]
        return bool(grey[lungs].mean() < grey[~lungs].mean())

    assert {dark_lungs("digital", index) for index in range(0, 40, 2)} == {True}
    assert {dark_lungs("portable", index) for index in range(0, 40, 2)} == {True, False}


def test_machines_share_no_body() -> None:
    sets = by_machines(PhantomSet(kind=CHEST), 3) + by_machines(PhantomSet(kind=CHEST, seed=1), 3)
    assert len({one.seed for one in sets}) == 6


def test_domains_are_drawn_as_data_sets_of_their_own(medfocus: Medfocus) -> None:
    answer = medfocus("phantom", "chest", "--domains", "3", *SMALL)
    assert answer.code == 0, answer
    assert "next: make adapt STUDY=phantom-pneumonia PROFILE=offline" in answer.out
    for machine in MACHINES:
        assert len(list(Path(f"data/phantom-chest-{machine}").rglob("*[0-9].png"))) == 6
        assert "6 usable images" in medfocus("scan", f"phantom-chest-{machine}").out
    again = medfocus("phantom", "chest", "--domains", "2", *SMALL)
    assert again.out.count("nothing to do") == 2


@pytest.mark.parametrize(("kind", "count"), [("brain", 2), (CHEST, 4)])
def test_domains_that_nobody_can_draw_are_refused(kind: str, count: int) -> None:
    with pytest.raises(ConfigError, match="medfocus phantom chest --domains 3"):
        by_machines(PhantomSet(kind=kind), count)
    with pytest.raises(ConfigError, match="digital, film, portable show chest"):
        draw("brain", 0, 0, machine="digital")
