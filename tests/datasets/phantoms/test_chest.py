from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import ndimage

from medfocus_pipeline.datasets.phantoms import chest, chest_anatomy, chest_findings
from medfocus_pipeline.datasets.phantoms.canvas import flat, posed
from medfocus_pipeline.datasets.phantoms.chest_build import LEFT, RIGHT, build, outline
from medfocus_pipeline.datasets.phantoms.chest_shadows import pixels
from medfocus_pipeline.datasets.phantoms.painting import Phantom
from medfocus_pipeline.seeding import generator

CARDS = Path(__file__).parents[3] / "data"
PAINTERS = {
    "covid": (chest.COVID_CLASSES, chest.paint),
    "lungs": (chest.LUNGS_CLASSES, chest.paint),
}
ORGANS = 4
"""The last parts: right lung, left lung, heart, both lungs."""


def phantom(label: str, index: int, *, size: int = 96, difficulty: float = 0.3) -> Phantom:
    return chest.paint(generator("test", index), label, size, difficulty)


def phantoms(label: str, count: int = 20) -> list[Phantom]:
    return [phantom(label, index) for index in range(count)]


def share_of(mask: np.ndarray, within: np.ndarray) -> float:
    return np.count_nonzero(mask & within) / np.count_nonzero(within)


def centre(mask: np.ndarray) -> tuple[float, float]:
    y, x = ndimage.center_of_mass(mask)
    return x, y


@pytest.mark.parametrize("kind", PAINTERS)
def test_the_classes_are_the_cards(kind: str) -> None:
    card = yaml.safe_load((CARDS / f"{kind}.yaml").read_text(encoding="utf-8"))
    assert PAINTERS[kind][0] == tuple(entry["name"] for entry in card["classes"])


@pytest.mark.parametrize(
    ("paint", "label"),
    [(paint, label) for classes, paint in PAINTERS.values() for label in classes],
)
@pytest.mark.parametrize("size", [32, 97, 224])
def test_a_phantom_is_complete_at_every_size(
    paint: Callable[..., Phantom], label: str, size: int
) -> None:
    for index in range(2):
        drawn = paint(generator("size", index), label, size, 0.5)
        assert drawn.label == label
        assert drawn.image.shape == (size, size, 3)
        assert drawn.image.dtype == np.uint8
        assert (drawn.image == drawn.image[..., :1]).all()
        assert drawn.lesion.shape == (size, size)
        assert drawn.lesion.dtype == drawn.parts.dtype == np.bool_
        assert drawn.parts.shape[1:] == (size, size)
        assert drawn.parts.any(axis=(1, 2)).all()
        assert drawn.lesion.any() == (label != "Normal")
        assert len(drawn.caption) > 10


@pytest.mark.parametrize("label", chest.LUNGS_CLASSES)
def test_the_same_generator_paints_the_same_phantom(label: str) -> None:
    one, two, other = phantom(label, 5), phantom(label, 5), phantom(label, 6)
    assert (one.image == two.image).all()
    assert (one.parts == two.parts).all()
    assert one.caption == two.caption
    assert (one.image != other.image).any()


def test_the_body_is_the_same_whatever_the_class() -> None:
    for index in range(5):
        healthy = phantom("Normal", index)
        for label in chest.LUNGS_CLASSES:
            drawn = phantom(label, index)
            assert (drawn.parts[-ORGANS:] == healthy.parts).all()
            changed = (drawn.image != healthy.image).any(axis=2)
            lungs = ndimage.binary_dilation(drawn.parts[-1], iterations=4)
            assert not (changed & ~lungs).any()


def test_lesions_lie_in_the_lungs_and_brighten_them() -> None:
    for label in set(chest.LUNGS_CLASSES) - {"Normal"}:
        gains = []
        for index in range(10):
            drawn, healthy = phantom(label, index), phantom("Normal", index)
            lungs = drawn.parts[-1]
            assert not (drawn.lesion & ~lungs).any()
            pieces = drawn.parts[:-ORGANS]
            assert len(pieces) > 0
            assert not (pieces & ~drawn.lesion).any()
            added = drawn.image[..., 0].astype(float) - healthy.image[..., 0]
            gains.append(added[drawn.lesion].mean() - added[lungs & ~drawn.lesion].mean())
        assert np.mean(gains) > 10


def test_lesions_have_no_holes() -> None:
    for drawn in phantoms("Tuberculosis", 6):
        np.testing.assert_array_equal(drawn.lesion, ndimage.binary_fill_holes(drawn.lesion))


def test_the_heart_points_to_the_patients_left() -> None:
    for index in range(20):
        right, left, heart, both = phantom("Normal", index).parts
        assert centre(right)[0] < centre(heart)[0] < centre(left)[0]
        assert (both == (right | left)).all()
        assert not (heart & both).any()
    sizes = [[np.count_nonzero(p) for p in phantom("Normal", i).parts[:2]] for i in range(20)]
    right_size, left_size = np.mean(sizes, axis=0)
    assert right_size > left_size


def test_covid_is_bilateral_peripheral_and_low() -> None:
    bilateral, low = [], []
    for drawn in phantoms("Corona Virus Disease"):
        right, left, _, both = drawn.parts[-ORGANS:]
        bilateral.append(share_of(drawn.lesion, right) > 0.03 < share_of(drawn.lesion, left))
        low.append(centre(drawn.lesion)[1] - centre(both)[1])
    assert np.mean(bilateral) > 0.7
    assert np.mean(low) > 0


def test_viral_pneumonia_covers_much_of_both_lungs() -> None:
    shares = [
        [share_of(drawn.lesion, lung) for lung in drawn.parts[-ORGANS:-2]]
        for drawn in phantoms("Viral Pneumonia")
    ]
    assert np.mean(shares) > 0.4
    assert np.min(np.mean(shares, axis=0)) > 0.4


def test_bacterial_pneumonia_keeps_to_one_lung() -> None:
    one_sided = []
    for drawn in phantoms("Bacterial Pneumonia"):
        shares = sorted(share_of(drawn.lesion, lung) for lung in drawn.parts[-ORGANS:-2])
        one_sided.append(shares[0] < 0.2 * shares[1])
    assert np.mean(one_sided) > 0.7


def test_tuberculosis_sits_in_the_upper_zones() -> None:
    high = [
        centre(drawn.parts[-1])[1] - centre(drawn.lesion)[1] for drawn in phantoms("Tuberculosis")
    ]
    assert np.mean(high) > 96 * 0.08


def test_harder_phantoms_have_fainter_lesions() -> None:
    def density(difficulty: float) -> float:
        findings = [
            chest_findings.decide(generator(i), chest_findings.COVID, difficulty) for i in range(50)
        ]
        return float(np.mean([finding.density for finding in findings]))

    assert density(0.0) > 1.5 * density(0.5) > 3 * density(1.0) > 0


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("Normal", ("health", "clear", "normal", "no acute", "without")),
        ("Corona Virus Disease", ("covid", "sars", "corona")),
        ("Viral Pneumonia", ("viral",)),
        ("Bacterial Pneumonia", ("bacteri", "lobar", "pneumococc")),
        ("Tuberculosis", ("tubercul", "tb", "mycobact")),
    ],
)
def test_captions_name_the_finding(label: str, words: tuple[str, ...]) -> None:
    captions = {drawn.caption.lower() for drawn in phantoms(label)}
    assert len(captions) > 10
    assert all(any(word in caption for word in words) for caption in captions)


def test_captions_name_the_side_that_was_drawn() -> None:
    for drawn in phantoms("Bacterial Pneumonia", 15):
        right, left = (np.count_nonzero(drawn.lesion & lung) for lung in drawn.parts[-4:-2])
        if "in the right lung" in drawn.caption:
            assert right > left
        if "in the left lung" in drawn.caption:
            assert left > right


def test_pixels_are_where_the_frame_says() -> None:
    frame = posed(generator("pose"), 64, bend=0)
    points = np.array([[frame.x[10, 50], frame.y[10, 50]], [frame.x[40, 3], frame.y[40, 3]]])
    np.testing.assert_allclose(pixels(frame, points.astype(float)), [[50, 10], [3, 40]], atol=1e-3)


def test_a_place_in_the_lung_is_between_mediastinum_and_chest_wall() -> None:
    frame = flat(200)
    for index in range(10):
        body = build(generator("place", index))
        at = outline(body, frame)
        for side in (RIGHT, LEFT):
            x, y = body.place(side, 0.5, 0.5)
            column, row = int((x + 1) * 100), int((y + 1) * 100)
            assert (x > 0) == (side == LEFT)
            assert at.wall[row, column] > 0
            assert at.floor[row, column] > 0
            assert at.width[row, column] > at.inner[row, column]


def test_the_anatomy_looks_alike_at_every_size() -> None:
    small, large = (chest_anatomy.draw(generator("zoom"), size) for size in (96, 224))
    assert abs(small.lungs.mean() - large.lungs.mean()) < 0.01
    assert abs(float(small.picture.mean() - large.picture.mean())) < 0.03
