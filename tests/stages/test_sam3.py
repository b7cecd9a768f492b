"""``masks`` with SAM 3: what the classes are called is asked for, kept in the key, exported."""

import json
from pathlib import Path

import pytest

from tests.segmenters.sam3_models import write_sam3
from tests.stages.conftest import Medfocus, make_images

CARD = """
title: shapes
splits: {train: train, test: test}
classes:
  - {name: disc, prompt: brain tumor}
  - {name: square, prompt: %s}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sam3(tmp_path_factory.mktemp("sam3") / "tiny")


def test_the_phrases_are_the_cards_from_the_masks_to_the_exported_folder(
    medfocus: Medfocus, folder: Path, tmp_path: Path
) -> None:
    images = make_images(tmp_path / "images", train=4, test=2)
    (images / "card.yaml").write_text(CARD % "normal lungs")
    chosen = ("--segmenter", "sam3", "--set", f"segmenter.model={folder}")
    loose = ("--set", "segmenter.min_score=0", "--set", "segmenter.min_area=0")
    of = ("masks", "shapes", "--data", images, "--profile", "imagenet")
    answer = medfocus(*of, *chosen, *loose)
    assert answer.code == 0, answer
    assert "masks with tiny: 12 images" in answer.out
    assert phrases(tmp_path) == [["brain tumor", "normal lungs"]]
    assert "nothing to do" in medfocus("masks").out

    for command in (
        ("embed", "--focus", "segmented", "--roi", "best", "--views", "identity"),
        ("probe", "--row", "linear:segmented", "--fractions", "100", "--seeds", "1"),
        ("export", "--out", "pack"),
    ):
        answer = medfocus(*command)
        assert answer.code == 0, answer
    said = json.loads((tmp_path / "pack" / "config.json").read_text())
    assert said["masks"]["segmenter"]["phrases"] == ["brain tumor", "normal lungs"]
    picture = next(images.rglob("*.png"))
    answer = medfocus("predict", picture, "--from", "pack", "--json")
    assert answer.code == 0, answer

    (images / "card.yaml").write_text(CARD % "normal breast")
    assert "masks with tiny: 12 images" in medfocus("masks").out
    assert phrases(tmp_path) == [["brain tumor", "normal breast"], ["brain tumor", "normal lungs"]]


def phrases(place: Path) -> list[list[str]]:
    """Those of every mask store, by its own JSON."""
    stores = (place / "cache" / "shapes" / "masks").glob("*/store.json")
    texts = (json.loads(path.read_text()) for path in stores)
    return sorted(text["recipe"]["config"]["segmenter"]["phrases"] for text in texts)
