import numpy as np
import pytest

from medfocus_pipeline.datasets.phantoms import breast
from medfocus_pipeline.datasets.phantoms.painting import Phantom
from medfocus_pipeline.seeding import generator


def paint(label: str, count: int = 24, difficulty: float = 0.0) -> list[Phantom]:
    return [breast.paint(generator("b", i), label, 96, difficulty) for i in range(count)]


def aspect(phantom: Phantom) -> float:
    """Width over height of the lesion."""
    rows, columns = phantom.lesion.any(axis=1), phantom.lesion.any(axis=0)
    return float(columns.sum() / rows.sum())


def test_a_benign_mass_is_wider_than_tall_and_a_malignant_one_taller_than_wide() -> None:
    inside = [[p for p in paint(label) if p.lesion.any()] for label in ("benign", "malignant")]
    benign, malignant = (np.median([aspect(p) for p in phantoms]) for phantoms in inside)
    assert benign > 1.2
    assert malignant < 0.95


def test_a_malignant_outline_is_longer_for_its_area() -> None:
    def roughness(phantom: Phantom) -> float:
        mask = phantom.lesion
        outline = (mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum()
        return float(outline / np.sqrt(mask.sum()))

    rough = {
        label: np.median([roughness(p) for p in paint(label) if p.lesion.sum() > 80])
        for label in ("benign", "malignant")
    }
    assert rough["malignant"] > rough["benign"]


@pytest.mark.parametrize("label", breast.CLASSES)
def test_only_a_mass_has_a_lesion_and_it_is_the_only_part(label: str) -> None:
    for phantom in paint(label, 6):
        assert phantom.lesion.any() == (label != "normal")
        assert len(phantom.parts) == int(label != "normal")
        assert all((part == phantom.lesion).all() for part in phantom.parts)


def test_normal_tissue_is_as_bright_as_tissue_with_a_mass() -> None:
    brightness = [
        np.mean([p.image[~p.lesion].mean() for p in paint(label, 20)]) for label in breast.CLASSES
    ]
    assert np.ptp(brightness) < 12


def test_a_mass_fades_with_the_difficulty() -> None:
    def contrast(difficulty: float) -> float:
        phantoms = [p for p in paint("benign", 20, difficulty) if p.lesion.any()]
        return float(
            np.mean([abs(p.image[p.lesion].mean() - p.image[~p.lesion].mean()) for p in phantoms])
        )

    assert contrast(0.0) > contrast(0.5) > contrast(1.0)
