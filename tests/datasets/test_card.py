"""Dataset cards."""

import csv
import re
from pathlib import Path

import PIL.Image
import pytest

from medfocus_pipeline import Project
from medfocus_pipeline.datasets.card import (
    Card,
    card_folder,
    find_card,
    known_cards,
    load_card,
    plain_card,
)
from medfocus_pipeline.errors import ConfigError

GOOD = """\
title: Pets
modality: photo
splits: {train: "Training|train", test: test}
classes:
  - {name: cat, prompt: a cat, folders: cats|cat}
  - {name: dog, prompt: a dog}
"""

PAPER = Path(__file__).parents[2] / ".." / "shared" / "reference" / "paper_accuracy.csv"


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pets.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_card_is_read_with_its_alternatives(tmp_path: Path) -> None:
    card = load_card(_write(tmp_path, GOOD))
    assert card.splits == {"train": ("Training", "train"), "test": ("test",)}
    assert card.class_index == {"cat": 0, "cats": 0, "dog": 1}


def test_wrong_card_lists_all_problems_with_line_and_key(tmp_path: Path) -> None:
    text = """\
title: Pets
titel: Pets
splits:
  train: Training
classes:
  - name: cat
    prompt: a cat
  - name: no
    folders: a/b
templates:
  - a photo
patient: "(a)(b)"
test_share: 1.5
annotation: "*_mask.png"
paper:
  CLIP: {5: 120}
title: Again
"""
    with pytest.raises(ConfigError) as caught:
        load_card(_write(tmp_path, text))
    message = str(caught.value)
    for expected in (
        r"has 11 problems",
        r"line 2: titel: is not a known key",
        r"line 3: splits: expected train and test, or neither; got train",
        r"line 8: classes\.1\.name: .*string.*got False",
        r"line 8: classes\.1\.prompt: is missing",
        r"line 9: classes\.1\.folders\.0: expected the name of one folder, got 'a/b'",
        r"line 11: templates\.0: expected one \{\}",
        r"line 12: patient: expected one group",
        r"line 13: test_share: .*less than 1, got 1\.5",
        r"line 14: annotation: expected a relative path",
        r"line 16: paper\.CLIP\.5: .*less than or equal to 100, got 120",
        r"line 17: title: repeats line 1",
    ):
        assert re.search(expected, message), f"{expected} not in\n{message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title: [", "is not YAML: line"),
        ("", "the file: .*valid dictionary"),
        ("- a\n- b\n", "the file: .*valid dictionary"),
        ("title: !!python/object/apply:os.system [ls]\n", "is not YAML: line"),
        ("title: &a [*a]\nclasses: *a\n", r"line 1: the alias \*a is not followed"),
        ("title: a\nclasses: []\n", "classes: .*at least 1"),
        ("title: a\nclasses: [{name: x, prompt: x}, {name: X, prompt: y}]\n", "share .*'x'"),
        ("title: a\nroots: [../b]\nclasses: [{name: x, prompt: x}]\n", "inside the data folder"),
        ("title: a\npatient: '('\nclasses: [{name: x, prompt: x}]\n", "regular expression"),
        ("title: a\nannotation: '{stem}*'\nclasses: [{name: x, prompt: x}]\n", "themselves"),
    ],
)
def test_unusable_card_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_card(_write(tmp_path, text))


def test_card_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pets.yaml"
    path.write_bytes(b"title: \xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_card(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_card(tmp_path / "none.yaml")


def test_prompts_fill_every_template(tmp_path: Path) -> None:
    card = load_card(_write(tmp_path, GOOD + 'templates: ["{}!", "see {} {x}"]\n'))
    assert card.prompts() == [["a cat!", "see a cat {x}"], ["a dog!", "see a dog {x}"]]


def test_default_templates_name_the_modality(tmp_path: Path) -> None:
    prompts = load_card(_write(tmp_path, GOOD)).prompts()
    assert "photo showing a cat." in prompts[0]


def test_plain_card_reads_underscores_as_spaces() -> None:
    card = plain_card("mine", ["viral_pneumonia", "normal"])
    assert card.classes[0].name == "viral_pneumonia"
    assert "viral pneumonia" in card.prompts()[0][0]


@pytest.mark.parametrize(
    ("pattern", "path", "patient"),
    [
        (r"/p(\d+)_", "cat/p12_3.png", "12"),
        (r"(?:cat|dog)/(?P<patient>\w+?)_", "dog/ab_1.png", "ab"),
        (r"(x)|(?P<patient>y)", "x", ""),
        (r"/p(\d+)_", "cat/q.png", ""),
        (None, "cat/p12_3.png", ""),
    ],
)
def test_patient_is_the_group_of_the_regex(pattern: str | None, path: str, patient: str) -> None:
    card = plain_card("mine", ["cat", "dog"])
    card = Card.model_validate({**card.model_dump(), "patient": pattern})
    assert card.patient_of(path) == patient


def test_users_card_and_the_data_folders_card_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = (card_folder() / "brain.yaml").read_text(encoding="utf-8")
    for number, name in enumerate(item.name for item in _packaged("brain").classes):
        for split in ("Training", "Testing"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            level = 20 * number + len(split)
            PIL.Image.new("L", (8, 8), level).save(folder / "0.png")
    (tmp_path / "data").mkdir()
    titles = []
    for path in (None, "data/brain.yaml", "images/card.yaml"):
        if path:
            Path(path).write_text(shipped.replace("Brain Tumor MRI", path), encoding="utf-8")
        titles.append(Project.open("brain", data="images", profile="offline").dataset.card.title)
    assert titles == ["Brain Tumor MRI", "data/brain.yaml", "images/card.yaml"]
    assert find_card("unheard-of") is None


@pytest.mark.parametrize("name", ["", "..", "../brain", "a/b", ".hidden", "a b", "ü", "a\n", "-x"])
def test_name_that_could_leave_the_cache_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no name for a data set"):
        find_card(name)


def test_packaged_cards_are_the_papers_four_of_the_pneumonia_study_and_of_the_gate() -> None:
    counts = {name: len(_packaged(name).classes) for name in known_cards()}
    assert counts == {
        "brain": 4,
        "breast": 3,
        "covid": 3,
        "lungs": 5,
        "covid-pneumonia-normal": 3,
        "kermany": 2,
        "rsna": 2,
        "medclip-classification": 2,
        "mediclip": 2,
        "phantom-mixed": 2,
    }


@pytest.mark.parametrize("name", ["brain", "breast", "covid", "lungs"])
def test_packaged_card_is_complete(name: str) -> None:
    card = _packaged(name)
    assert all((card.source, card.licence, card.citation, card.templates))
    assert len(card.paper) == 8
    assert all(sorted(row) == [5, 10, 20, 50, 100] for row in card.paper.values())


@pytest.mark.skipif(not PAPER.exists(), reason="the paper's table is not beside the repository")
def test_packaged_cards_say_what_the_paper_says() -> None:
    with PAPER.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 160
    for row in rows:
        paper = _packaged(row["dataset"]).paper
        accuracy = paper[row["method"]][float(row["fraction_percent"])]
        assert accuracy == float(row["accuracy_percent"])


@pytest.mark.parametrize(
    ("path", "patient"),
    [
        # Names of files as the archive has them.
        ("chest_xray/train/PNEUMONIA/person1_bacteria_1.jpeg", "person1"),
        ("chest_xray/train/PNEUMONIA/person1000_virus_1681.jpeg", "person1000"),
        ("chest_xray/train/NORMAL/IM-0115-0001.jpeg", "IM-0115"),
        ("chest_xray/test/NORMAL/NORMAL2-IM-0013-0001.jpeg", "NORMAL2-IM-0013"),
    ],
)
def test_kermanys_names_tell_the_patients(path: str, patient: str) -> None:
    assert _packaged("kermany").patient_of(path) == patient


def test_the_prompts_of_medclip_classification_are_its_published_sentences() -> None:
    assert _packaged("medclip-classification").prompts() == [
        ["A chest X-ray showing a normal lung"],
        ["A chest X-ray showing pneumonia"],
    ]


def _packaged(name: str) -> Card:
    card = find_card(name)
    assert card is not None
    return card
