"""Brain phantoms: each class is seen by its tumour, and by nothing else."""

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from medfocus_pipeline.datasets.phantoms import brain, brain_planes, brain_tumours
from medfocus_pipeline.datasets.phantoms.brain_planes import PLANES
from medfocus_pipeline.datasets.phantoms.painting import Phantom
from medfocus_pipeline.seeding import generator

TUMOURS = tuple(label for label in brain.CLASSES if label != "notumor")
SIZE = 96


def draw(label: str, index: int, *, size: int = SIZE, difficulty: float = 0.5) -> Phantom:
    return brain.paint(generator("test", label, index), label, size, difficulty)


@cache
def plain(label: str) -> tuple[Phantom, ...]:
    """Easy ones, whose cues are pure."""
    return tuple(draw(label, index, difficulty=0.0) for index in range(16))


@pytest.mark.parametrize("label", brain.CLASSES)
def test_a_phantom_keeps_its_contract(label: str) -> None:
    for index in range(6):
        phantom = draw(label, index)
        assert phantom.image.shape == (SIZE, SIZE, 3)
        assert phantom.image.dtype == np.uint8
        assert (phantom.image == phantom.image[..., :1]).all()
        assert phantom.label == label
        assert phantom.lesion.shape == (SIZE, SIZE)
        assert phantom.lesion.dtype == phantom.parts.dtype == np.bool_
        assert phantom.lesion.any() == (label != "notumor")
        assert phantom.parts.shape[1:] == (SIZE, SIZE)
        assert phantom.parts.any(axis=(1, 2)).all()


def test_the_same_generator_draws_the_same_phantom() -> None:
    first, second = draw("glioma", 3), draw("glioma", 3)
    assert (first.image == second.image).all()
    assert (first.parts == second.parts).all()
    assert first.caption == second.caption


@pytest.mark.parametrize("size", [32, 65])
@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_small_and_odd_sizes_are_drawn(size: int, difficulty: float) -> None:
    for label in TUMOURS:
        phantom = draw(label, 1, size=size, difficulty=difficulty)
        assert phantom.image.shape == (size, size, 3)
        assert phantom.lesion.any()


@pytest.mark.parametrize("label", TUMOURS)
def test_the_first_part_is_the_lesion(label: str) -> None:
    for phantom in plain(label):
        assert (phantom.parts[0] & phantom.lesion).sum() > 0.9 * phantom.lesion.sum()


def test_the_lesion_lies_in_the_head() -> None:
    for label in TUMOURS:
        shares = [(p.parts[1:].any(axis=0) & p.lesion).sum() / p.lesion.sum() for p in plain(label)]
        assert min(shares) > 0.85


def test_a_pituitary_tumour_is_the_smallest() -> None:
    area = {label: np.median([p.lesion.mean() for p in plain(label)]) for label in TUMOURS}
    assert area["pituitary"] < 0.6 * min(area["glioma"], area["meningioma"])


def test_the_outline_of_a_glioma_is_the_least_compact() -> None:
    def raggedness(phantom: Phantom) -> float:
        whole = phantom.parts[0]
        border = whole & ~ndimage.binary_erosion(whole)
        return float(border.sum() / np.sqrt(whole.sum()))

    mean = {label: np.mean([raggedness(p) for p in plain(label)]) for label in TUMOURS}
    assert mean["glioma"] > 1.1 * max(mean["meningioma"], mean["pituitary"])


@pytest.mark.parametrize("name", PLANES)
def test_each_class_grows_in_its_own_place(name: str) -> None:
    plane = PLANES[name]
    anatomy = brain_planes.Anatomy(plane, "T1", {}, 1.0, 0.05, 0.05, 1.0, stripped=False)
    rng = np.random.default_rng(0)
    plans = {
        label: [brain_tumours.plan(rng, anatomy, label, 0.0) for _ in range(20)]
        for label in TUMOURS
    }
    away = {
        label: np.mean([np.subtract(t.centre, plane.sella) for t in tumours], axis=0)
        for label, tumours in plans.items()
    }
    assert np.abs(away["pituitary"]).max() < 0.02
    far = {
        label: np.mean([np.hypot(*np.subtract(t.centre, plane.sella)) for t in tumours])
        for label, tumours in plans.items()
    }
    assert far["pituitary"] < 0.05 < 0.2 < min(far["glioma"], far["meningioma"])


def test_one_seed_shows_the_same_head_in_every_class() -> None:
    healthy, *others = (
        brain.paint(generator("test", 5), label, SIZE, 0.5)
        for label in ("notumor", "glioma", "meningioma", "pituitary")
    )
    for phantom in others:
        assert any((part == healthy.parts[0]).all() for part in phantom.parts)


def test_a_harder_lesion_is_fainter() -> None:
    anatomy = brain_planes.plan(np.random.default_rng(0))
    easy, hard = (
        brain_tumours.plan(np.random.default_rng(1), anatomy, "glioma", difficulty)
        for difficulty in (0.0, 1.0)
    )
    assert hard.strength < 0.5 * easy.strength


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("glioma", ("glio", "glial")),
        ("meningioma", ("mening",)),
        ("notumor", ("no ", "normal", "healthy")),
        ("pituitary", ("pituitary",)),
    ],
)
def test_captions_name_the_finding(label: str, words: tuple[str, ...]) -> None:
    captions = [phantom.caption for phantom in plain(label)]
    assert all(any(word in caption for word in words) for caption in captions)
    assert len(set(captions)) > 8
