"""CSVs as public sets and hospitals have them."""

import os
from pathlib import Path
from typing import NoReturn

import pytest

from medfocus_pipeline.datasets import scan as scanner
from medfocus_pipeline.datasets.card import Card
from medfocus_pipeline.datasets.listing import UNLABELLED
from medfocus_pipeline.datasets.reading import Reading
from medfocus_pipeline.datasets.scan import scan
from medfocus_pipeline.errors import DataError
from tests.datasets.conftest import SaveImage
from tests.stages.conftest import call

NIH = (  # Data_Entry_2017_v2020.csv of ChestX-ray14, with the comma at its end
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
CHEXPERT = (  # train.csv of CheXpert-v1.0-small
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,"
    "Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,"
    "Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
RSNA = "patientId,x,y,width,height,Target"  # stage_2_train_labels.csv, a row a box


def _csv(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_nihs_csv_is_read_as_it_is(tmp_path: Path, save_image: SaveImage) -> None:
    for number, part in enumerate(("images_001", "images_002"), start=1):
        save_image(tmp_path / part / "images" / f"0000000{number}_000.png")
    path = _csv(
        tmp_path / "Data_Entry_2017_v2020.csv",
        NIH,
        "00000001_000.png,Cardiomegaly,0,1,57,M,PA,2682,2749,0.143,0.143,",
        "00000002_000.png,No Finding,0,2,80,M,PA,2500,2048,0.171,0.171,",
    )
    manifest = scan(path, name="nih")
    assert manifest.paths == [f"images_00{n}/images/0000000{n}_000.png" for n in (1, 2)]
    assert manifest.strings("class_name") == ["Cardiomegaly", "No Finding"]
    assert manifest.strings("group") == ["1", "2"]


def test_several_findings_of_nihs_are_refused_with_what_to_do(
    tmp_path: Path, save_image: SaveImage
) -> None:
    save_image(tmp_path / "1.png")
    path = _csv(tmp_path / "nih.csv", NIH, "1.png,Cardiomegaly|Edema,0,1,57,M,PA,9,9,.1,.1,")
    with pytest.raises(DataError, match=r"line 2: 'Cardiomegaly\|Edema' .*name the combination"):
        scan(path, name="nih")


def test_chexperts_csv_is_read_by_one_of_its_findings(
    tmp_path: Path, save_image: SaveImage
) -> None:
    root = tmp_path / "CheXpert-v1.0-small"
    lines = []
    for patient, finding in enumerate(("1.0", "0.0", ""), start=1):
        name = f"train/patient0000{patient}/study1/view1_frontal.jpg"
        save_image(root / name)
        lines.append(f"{root.name}/{name},Male,60,Frontal,AP,,,,,,,,,,,{finding},,,1.0")
    path = _csv(root / "train.csv", CHEXPERT, *lines)
    with pytest.raises(DataError, match=r"column label is missing(.|\n)*--columns"):
        scan(path, name="chexpert", reading=Reading(images=tmp_path))
    card = Card.model_validate(
        {
            "title": "Effusion",
            "columns": {"label": "Pleural Effusion"},
            "patient": r"/patient(\d+)/",
            "classes": [
                {"name": "effusion", "prompt": "an effusion", "folders": "1.0"},
                {"name": "none", "prompt": "no effusion", "folders": "0.0"},
            ],
        }
    )
    manifest = scan(path, name="chexpert", card=card, reading=Reading(images=tmp_path))
    assert manifest.strings("class_name") == ["effusion", "none", ""]
    assert manifest.strings("group") == ["00001", "00002", "00003"]
    assert [why for _, why in manifest.problems] == [UNLABELLED]


def test_rsnas_csv_is_read_box_by_box(tmp_path: Path, save_image: SaveImage) -> None:
    for name in ("0004cfab", "00436515"):
        save_image(tmp_path / "stage_2_train_images" / f"{name}.png")
    path = _csv(
        tmp_path / "labels" / "stage_2_train_labels.csv",
        RSNA,
        "0004cfab,,,,,0",
        "00436515,264.0,152.0,213.0,379.0,1",
        "00436515,562.0,152.0,256.0,453.0,1",
    )
    columns = {"path": "patientId", "label": "Target", "group": "patientId"}
    reading = Reading(columns=columns, images=tmp_path / "stage_2_train_images")
    manifest = scan(path, name="rsna", reading=reading)
    assert manifest.paths == ["0004cfab.png", "00436515.png"]
    assert manifest.strings("class_name") == ["0", "1"]
    assert manifest.strings("group") == ["0004cfab", "00436515"]


def test_absolute_paths_inside_the_folder_are_those_files(folder: Path) -> None:
    inside = folder / "Training/cat/1.png"
    path = _csv(folder / "a.csv", "path,label", f"{inside},cat", "Training/dog/1.png,dog")
    assert scan(path, name="pets").paths == ["Training/cat/1.png", "Training/dog/1.png"]
    twice = _csv(folder / "b.csv", "path,label", f"{inside},cat", "Training/cat/1.png,dog")
    with pytest.raises(DataError, match=r"line 3: path 'Training/cat/1.png' stands twice"):
        scan(twice, name="pets")
    away = _csv(folder / "c.csv", "path,label", "/etc/hostname,cat", "Training/dog/1.png,dog")
    with pytest.raises(DataError, match=r"line 2: no file '/etc/hostname' in(.|\n)*--images"):
        scan(away, name="pets")


def test_a_name_that_several_files_have_is_not_guessed(folder: Path) -> None:
    path = _csv(folder / "a.csv", "path,label", "1.png,cat", "Training/dog/1.png,dog")
    with pytest.raises(DataError, match=r"line 2: no file '1.png'"):
        scan(path, name="pets")


def test_columns_and_images_are_remembered_until_other_data_is_named(
    tmp_path: Path, save_image: SaveImage
) -> None:
    save_image(tmp_path / "scans" / "1.png")
    save_image(tmp_path / "scans" / "2.png")
    _csv(tmp_path / "csv" / "l.csv", "where;what;who", "1.png;ill;a", "2.png;well;b")
    named = ("--columns", "path=where, label=what", "--images", "scans")
    first = call("scan", "x", "--data", "csv/l.csv", *named, cwd=tmp_path)
    assert first.code == 0, first
    again = call("scan", "x", cwd=tmp_path)
    assert (again.code, "2 usable images" in again.out) == (0, True)
    _csv(tmp_path / "scans" / "l.csv", "path,label", "1.png,ill", "2.png,well")
    other = call("scan", "x", "--data", "scans/l.csv", cwd=tmp_path)
    assert (other.code, "2 usable images" in other.out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--columns", "path"), "'path' names no column; expected OURS=THEIRS"),
        (("--columns", "where=path"), "columns.where"),
        (("--columns", "label=finding"), "column finding is missing"),
        (("--images", "none"), "none is no folder: --images names"),
    ],
)
def test_wrong_options_of_a_csv_are_refused(
    folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    _csv(folder / "a.csv", "path,label", "Training/cat/1.png,cat", "Training/dog/1.png,dog")
    answer = call("scan", "x", "--data", "a.csv", *arguments, cwd=folder)
    assert answer.code == (1 if "missing" in said else 2)
    assert said in " ".join(answer.err.split())


def test_a_folder_takes_no_images(folder: Path) -> None:
    answer = call("scan", "x", "--data", ".", "--images", "Training", cwd=folder)
    assert (answer.code, "is a folder: --images names" in answer.err) == (2, True)


@pytest.mark.parametrize("name", ["Training/cat/2.png", "only.png"], ids=["path", "name"])
def test_a_csv_that_says_the_same_of_the_same_files_is_not_read_again(
    folder: Path, save_image: SaveImage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    save_image(folder / "Training" / "cat" / "only.png")
    path = _csv(folder / "a.csv", "path,label", f"{name},cat", "Training/dog/1.png,dog")
    before = scan(path, name="pets")

    def asked(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the CSV was read again")

    with monkeypatch.context() as patch:
        patch.setattr(scanner, "read_listing", asked)
        assert scan(path, name="pets", previous=before) is before
    os.utime(folder / "Training" / "dog" / "1.png", ns=(1, 1))
    after = scan(path, name="pets", previous=before)
    assert after.column("mtime_ns").to_pylist().count(1) == 1
    (folder / "Training" / "dog" / "1.png").unlink()
    with pytest.raises(DataError, match=r"line 3: no file 'Training/dog/1.png'"):
        scan(path, name="pets", previous=after)


def test_a_name_that_another_file_gets_too_is_no_longer_guessed(
    folder: Path, save_image: SaveImage
) -> None:
    save_image(folder / "Training" / "cat" / "only.png")
    path = _csv(folder / "a.csv", "path,label", "only,cat", "Training/dog/1.png,dog")
    before = scan(path, name="pets")
    save_image(folder / "Training" / "dog" / "only.png")
    with pytest.raises(DataError, match="line 2: no file 'only'"):
        scan(path, name="pets", previous=before)


def test_a_change_of_a_file_that_no_walk_finds_is_seen(folder: Path, save_image: SaveImage) -> None:
    save_image(folder / ".hidden" / "1.png")
    save_image(folder / "Training" / "cat" / "only.png")
    path = _csv(folder / "a.csv", "path,label", "only,cat", ".hidden/1.png,dog")
    before = scan(path, name="pets")
    os.utime(folder / ".hidden" / "1.png", ns=(1, 1))
    after = scan(path, name="pets", previous=before)
    assert after.column("mtime_ns").to_pylist().count(1) == 1
