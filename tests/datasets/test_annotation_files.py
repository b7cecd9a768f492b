"""Where the annotation masks of an image are."""

import fnmatch
import glob
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfocus_pipeline.datasets import annotation_files
from medfocus_pipeline.datasets.annotation_files import AnnotationFiles
from medfocus_pipeline.datasets.card import Card, plain_card
from medfocus_pipeline.datasets.scan import scan
from tests.datasets.conftest import SaveImage


def test_annotations_may_lie_in_a_folder_beside(
    tmp_path: Path, card: Card, save_image: SaveImage
) -> None:
    card = card.model_copy(update={"splits": {}, "annotation": "masks/{stem}.png"})
    for name in ("cat/1.png", "cat/masks/1.png", "cat/masks/2.png", "dog/1.png"):
        save_image(tmp_path / name)
    assert scan(tmp_path, name="pets", card=card).paths == ["cat/1.png", "dog/1.png"]
    assert AnnotationFiles(tmp_path, card).of("cat/1.png") == [tmp_path / "cat/masks/1.png"]
    away = card.model_copy(update={"annotation": "../../../{stem}.png"})
    assert AnnotationFiles(tmp_path / "cat", away).of("1.png") == []


@pytest.mark.parametrize("pattern", ["{stem}_mask*.png", "m?{stem}.png", "x-{stem}[ab]{stem}.*"])
@given(st.lists(st.text("1ab[]-m?_x", min_size=1, max_size=3), max_size=4), st.data())
def test_annotations_are_what_the_pattern_matches(
    pattern: str, stems: list[str], data: st.DataObject
) -> None:
    names = st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["", "m1", "m?", "x-"]),
        st.sampled_from(["1", *stems]),
        st.sampled_from(["", "_mask", "_mask_2", "a1", "b[]"]),
        st.just(".png"),
    )
    with tempfile.TemporaryDirectory() as folder:
        there = data.draw(st.sets(names, max_size=6))
        for name in there:
            Path(folder, name).touch()
        card = plain_card("x", ("a", "b")).model_copy(update={"annotation": pattern})
        files = AnnotationFiles(Path(folder), card)
        for stem in ["1", *stems]:
            found = [path.name for path in files.of(f"{stem}.png")]
            wanted = pattern.replace("{stem}", glob.escape(stem))
            assert found == sorted(name for name in there if fnmatch.fnmatchcase(name, wanted))


def test_a_folder_of_annotations_is_listed_once(
    folder: Path, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[Path] = []

    def names(place: Path) -> list[str]:
        listed.append(place)
        return [path.name for path in place.iterdir()]

    monkeypatch.setattr(annotation_files, "names_in", names)
    files = AnnotationFiles(folder, card.model_copy(update={"annotation": "{stem}_mask.png"}))
    for name in ("Training/cat/1.png", "Training/cat/2.png", "Training/dog/1.png"):
        files.of(name)
    assert [place.name for place in listed] == ["cat", "dog"]
