"""Phantoms, medical or not: neither size, colour, file kind nor sharpness tells the sides."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medfocus_pipeline.datasets.card import load_card
from medfocus_pipeline.datasets.phantoms.folder import PhantomSet
from medfocus_pipeline.datasets.phantoms.mixed import CLASSES, one_look
from medfocus_pipeline.datasets.phantoms.phantom import MIXED, draw
from medfocus_pipeline.datasets.phantoms.writer import plan, prepare, write
from medfocus_pipeline.datasets.scan import scan
from medfocus_pipeline.datasets.splits import test_split as split_of


def fine_share(image: np.ndarray) -> float:
    """Share of a picture's energy, without its mean, in the finest half of all frequencies."""
    grey = image[..., 0].astype(float)
    # A window, as what is left and right of a picture does not belong together.
    grey = (grey - grey.mean()) * np.outer(*2 * [np.hanning(len(grey))])
    power = np.abs(np.fft.fft2(grey)) ** 2
    frequency = np.abs(np.fft.fftfreq(len(grey)))
    fine = np.maximum.outer(frequency, frequency) > 0.3
    return float(power[fine].sum() / power.sum())


@pytest.mark.parametrize("label", CLASSES)
def test_no_side_has_colour_or_details_that_the_other_cannot_have(label: str) -> None:
    for index in range(6):
        image = draw(MIXED, 3, index, size=96, label=label).image
        assert np.array_equal(image[..., 0], image[..., 1])
        assert np.array_equal(image[..., 0], image[..., 2])
        assert fine_share(image) < 0.03


def test_noise_loses_what_is_finer_than_two_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert fine_share(noise) > 0.5
    assert fine_share(one_look(noise)) < 0.1


def test_the_set_has_three_splits_of_one_kind_of_file(tmp_path: Path) -> None:
    todo = plan(PhantomSet(kind=MIXED, size=32), tmp_path / "set", train=4, test=2)
    prepare(todo)
    write(todo)
    files = sorted((tmp_path / "set").rglob("*.png"))
    for path in files:
        with Image.open(path) as image:
            assert (image.mode, image.size, image.format) == ("L", (32, 32), "PNG")
    manifest = scan(tmp_path / "set", name="mixed", card=load_card(tmp_path / "set/card.yaml"))
    assert manifest.classes == ("medical", "non-medical")
    counts = Counter(zip(manifest.strings("split"), manifest.labels.tolist(), strict=True))
    one_each = {(split, side): 1 for split in ("validation", "test") for side in (0, 1)}
    assert counts == {("train", 0): 2, ("train", 1): 2, **one_each}
    split = split_of(manifest, test_share=0.3, seed=0)
    assert (len(split.train), len(split.test), split.official) == (4, 2, True)
    sides = np.array(manifest.strings("split"))
    assert set(sides[split.train]) == {"train"}
    assert set(sides[split.test]) == {"test"}
