import numpy as np
import pytest

from medfocus_pipeline.datasets.phantoms import other_pictures
from medfocus_pipeline.seeding import generator


@pytest.mark.parametrize("label", other_pictures.CLASSES)
def test_a_picture_has_no_lesion_and_its_parts_are_visible_regions(label: str) -> None:
    for index in range(8):
        picture = other_pictures.paint(generator("p", index), label, 64, 0.5)
        assert picture.image.shape == (64, 64, 3)
        assert not picture.lesion.any()
        assert picture.parts.shape[1:] == (64, 64)
        assert all(part.any() for part in picture.parts)
        # An object hides what lies under it, but for the holes that are filled.
        assert picture.parts.sum(axis=0).max(initial=0) <= 3


def test_a_gradient_has_no_objects_and_a_scene_has() -> None:
    counts = {
        label: [len(other_pictures.paint(generator(i), label, 64, 0.5).parts) for i in range(10)]
        for label in ("gradient", "scene")
    }
    assert max(counts["gradient"]) == 0
    assert np.mean(counts["scene"]) > 1.5


def test_some_pictures_are_grey_and_some_in_colour() -> None:
    spread = [
        np.ptp(other_pictures.paint(generator(i), "shapes", 64, 0.5).image, axis=2).max()
        for i in range(12)
    ]
    assert min(spread) == 0
    assert max(spread) > 20
