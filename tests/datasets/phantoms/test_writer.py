"""Folders of phantoms: layout, card, captions, and what a second run does."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest

from medfocus_pipeline.datasets.annotation_files import AnnotationFiles
from medfocus_pipeline.datasets.card import find_card, load_card
from medfocus_pipeline.datasets.phantoms import folder as folders
from medfocus_pipeline.datasets.phantoms import writer
from medfocus_pipeline.datasets.phantoms.folder import PhantomSet, clear
from medfocus_pipeline.datasets.phantoms.phantom import CLASSES, KINDS, PICTURES, draw
from medfocus_pipeline.datasets.phantoms.writer import plan, prepare, write
from medfocus_pipeline.datasets.readers import decode, read_annotation, read_image
from medfocus_pipeline.datasets.scan import scan
from medfocus_pipeline.errors import ConfigError, DataError

SIZE = 32


def make(root: Path, kind: str, *, train: int, test: int = 0, workers: int = 1, **changes) -> int:
    """Draw what is missing; returns how many that was."""
    todo = plan(PhantomSet(kind=kind, size=SIZE, **changes), root, train=train, test=test)
    prepare(todo)
    write(todo, workers=workers)
    return len(todo.missing)


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("kind", [*KINDS, PICTURES])
def test_a_set_is_scanned_with_its_own_card(tmp_path: Path, kind: str) -> None:
    make(tmp_path, kind, train=8, test=4)
    card = load_card(tmp_path / "card.yaml")
    manifest = scan(tmp_path, name=f"phantom-{kind}", card=card)
    assert manifest.problems == []
    assert manifest.classes == CLASSES[kind]
    captions = pq.read_table(tmp_path / "captions.parquet")
    assert captions["path"].to_pylist() == manifest.paths
    assert captions["split"].to_pylist() == manifest.strings("split")
    assert captions["class"].to_pylist() == manifest.strings("class_name")
    expected = {"train": 8, "test": 4} if card.splits else {"": 12}
    found = manifest.strings("split")
    assert {split: found.count(split) for split in set(found)} == expected
    assert len(manifest.files) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_is_that_of_its_name_without_what_was_measured_on_it(kind: str) -> None:
    original = find_card(kind)
    assert original is not None
    card = folders.card_of(kind)
    assert card.prompts() == original.prompts()
    assert [item.name for item in card.classes] == [item.name for item in original.classes]
    assert card.title.startswith("Phantom")
    assert "not clinical" in card.source
    assert not card.paper
    assert not card.citation


def test_images_lie_in_the_layout_of_the_original() -> None:
    first = folders.places("lungs", train=1, test=1)
    assert [place.path for place in first] == [
        "train/Bacterial Pneumonia/00000000.png",
        "test/Bacterial Pneumonia/60000000.png",
    ]
    assert folders.places("breast", train=1, test=1)[1].path == "malignant/00000001.png"
    assert {label for kind in CLASSES for label in CLASSES[kind]} == {
        place.label for kind in CLASSES for place in folders.places(kind, train=0, test=5)
    }


def test_a_file_is_the_phantom_of_its_row(tmp_path: Path) -> None:
    make(tmp_path, "brain", train=4, test=4, seed=3, difficulty=0.2)
    card = load_card(tmp_path / "card.yaml")
    rows = pq.read_table(tmp_path / "captions.parquet").to_pylist()
    for row in rows:
        phantom = draw(row["kind"], row["seed"], row["index"], size=SIZE, difficulty=0.2)
        assert phantom.label == row["class"]
        assert phantom.caption == row["caption"]
        assert np.array_equal(read_image(tmp_path / row["path"]), phantom.image)
        masks = AnnotationFiles(tmp_path, card).of(row["path"])
        assert len(masks) == 1
        assert np.array_equal(read_annotation(masks, (SIZE, SIZE)), phantom.lesion)
    assert decode(tmp_path / rows[0]["path"]).mode == "L"
    healthy = [row for row in rows if row["class"] == "notumor"]
    assert len(healthy) == 2


def test_pictures_have_colours_and_no_masks(tmp_path: Path) -> None:
    make(tmp_path, PICTURES, train=8)
    images = list(tmp_path.rglob("*.png"))
    assert len(images) == 8
    assert {decode(path).mode for path in images} == {"RGB"}


def test_neither_processes_nor_order_nor_interruptions_change_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_IMAGES_A_PROCESS", 9)
    make(tmp_path / "whole", "brain", train=20, test=2)
    make(tmp_path / "processes", "brain", train=20, test=2, workers=2)
    for train in (3, 20):
        make(tmp_path / "grown", "brain", train=train, test=2)
    whole = contents(tmp_path / "whole")
    assert len(whole) == 2 * 22 + 3
    assert contents(tmp_path / "processes") == whole
    assert contents(tmp_path / "grown") == whole


def test_a_second_run_draws_only_what_is_missing(tmp_path: Path) -> None:
    assert make(tmp_path, "covid", train=6, test=3) == 9
    before = contents(tmp_path)
    assert make(tmp_path, "covid", train=6, test=3) == 0
    (tmp_path / "train" / "Covid" / "00000003.png").unlink()
    (tmp_path / "train" / "Normal" / "00000001_mask.png").write_bytes(b"")
    assert make(tmp_path, "covid", train=6, test=3) == 2
    assert contents(tmp_path) == before


def test_fewer_images_than_there_are_leave_the_others(tmp_path: Path) -> None:
    make(tmp_path, "brain", train=6, test=2)
    before = contents(tmp_path)
    todo = plan(PhantomSet(kind="brain", size=SIZE), tmp_path, train=2, test=1)
    assert (todo.missing, todo.more) == ([], 5)
    assert make(tmp_path, "brain", train=2, test=1) == 0
    assert contents(tmp_path) == before


def test_a_run_that_stops_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = 0

    def failing(*arguments, **settings):
        nonlocal drawn
        drawn += 1
        if drawn > 20:
            raise KeyboardInterrupt
        return draw(*arguments, **settings)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(writer, "draw", failing)
        make(tmp_path / "stopped", "brain", train=40)
    assert pq.read_table(tmp_path / "stopped" / "captions.parquet").num_rows == 16
    (tmp_path / "stopped" / "Training" / "glioma" / ".00000036.png.1.partial").touch()
    assert make(tmp_path / "stopped", "brain", train=40) == 24
    make(tmp_path / "whole", "brain", train=40)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_progress_counts_every_image_once(tmp_path: Path) -> None:
    todo = plan(PhantomSet(kind="breast", size=SIZE), tmp_path, train=30, test=5)
    prepare(todo)
    told: list[int] = []
    write(todo, on_images=told.append)
    assert sum(told) == 35


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 1}, "phantoms of seed 0, not 1"),
        ({"difficulty": 0.1}, "difficulty 0.5, not 0.1"),
        ({"kind": "breast", "seed": 2}, "kind brain, not breast; seed 0, not 2"),
    ],
    ids=["seed", "difficulty", "kind"],
)
def test_a_folder_of_other_phantoms_is_refused(
    tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    make(tmp_path, "brain", train=2)
    other = PhantomSet.model_validate({"kind": "brain", "size": SIZE, **changes})
    with pytest.raises(DataError, match=rf"{told}.*--data.*medfocus phantom \w+ --force"):
        plan(other, tmp_path, train=2, test=0)


def test_a_folder_of_the_users_is_neither_written_to_nor_cleared(tmp_path: Path) -> None:
    (tmp_path / "00000000.png").touch()
    with pytest.raises(DataError, match=r"was not drawn by MedFocus.*--data"):
        plan(PhantomSet(kind="brain"), tmp_path, train=2, test=0)
    with pytest.raises(DataError, match="nothing in it is replaced"):
        clear(tmp_path)
    with pytest.raises(DataError, match="not drawn by MedFocus"):
        plan(PhantomSet(kind="brain"), tmp_path / "00000000.png", train=2, test=0)
    assert [path.name for path in tmp_path.iterdir()] == ["00000000.png"]


def test_a_damaged_list_of_settings_is_said_to_be_one(tmp_path: Path) -> None:
    make(tmp_path, "brain", train=1)
    (tmp_path / "phantom.json").write_text("{")
    with pytest.raises(DataError, match=r"phantom\.json is damaged.*--force"):
        plan(PhantomSet(kind="brain", size=SIZE), tmp_path, train=1, test=0)


def test_clearing_leaves_what_was_not_drawn(tmp_path: Path) -> None:
    make(tmp_path, "brain", train=8, test=4)
    kept = tmp_path / "Training" / "glioma" / "mine.png"
    kept.touch()
    clear(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]
    kept.unlink()
    assert make(tmp_path / "new", "breast", train=2, seed=1) == 2
    clear(tmp_path / "new")
    assert make(tmp_path / "new", "brain", train=2) == 2
    clear(tmp_path / "nothing there")


def test_phantoms_of_another_version_are_not_mixed_with_these(tmp_path: Path) -> None:
    make(tmp_path, "brain", train=4)
    image = tmp_path / "Training" / "glioma" / "00000000.png"
    PIL.Image.new("L", (SIZE, SIZE), 7).save(image)
    assert make(tmp_path, "brain", train=4) == 0
    with pytest.raises(DataError, match=r"another version of MedFocus.*--force"):
        make(tmp_path, "brain", train=5)


def test_a_damaged_list_of_captions_is_made_again(tmp_path: Path) -> None:
    make(tmp_path, "brain", train=4)
    before = contents(tmp_path)
    (tmp_path / "captions.parquet").write_bytes(b"PAR1")
    assert make(tmp_path, "brain", train=4) == 4
    assert contents(tmp_path) == before


def test_the_settings_are_beside_the_images(tmp_path: Path) -> None:
    make(tmp_path, "brain", train=1, seed=5)
    settings = json.loads((tmp_path / "phantom.json").read_text())
    assert settings == {"kind": "brain", "seed": 5, "difficulty": 0.5, "size": SIZE}


def test_a_card_that_the_user_changed_stays(tmp_path: Path) -> None:
    make(tmp_path, "brain", train=1)
    (tmp_path / "card.yaml").write_text("mine")
    make(tmp_path, "brain", train=2)
    assert (tmp_path / "card.yaml").read_text() == "mine"


def test_no_images_or_no_such_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"at least one image.*--train 400"):
        plan(PhantomSet(kind="brain"), tmp_path, train=0, test=0)
    with pytest.raises(ConfigError, match=r"No phantoms of kind 'knee'.*brain, breast"):
        plan(PhantomSet(kind="knee"), tmp_path, train=1, test=0)


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_save", full)
    with pytest.raises(DataError, match=r"No space left on device.*--data"):
        make(tmp_path, "brain", train=1)
