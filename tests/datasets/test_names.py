"""What is read off the names of files and folders, and off the headers of DICOM files."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from medfocus_pipeline.datasets import manifest as manifests
from medfocus_pipeline.datasets.card import Card, plain_card
from medfocus_pipeline.datasets.contents import MASK
from medfocus_pipeline.datasets.entries import NOT_VALIDATED
from medfocus_pipeline.datasets.reading import Reading
from medfocus_pipeline.datasets.scan import scan
from medfocus_pipeline.datasets.splits import test_split as draw_split
from medfocus_pipeline.errors import DataError
from tests.datasets.conftest import SaveImage, write_dicom
from tests.stages.conftest import call


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("benign (1).png", "benign (1)_mask.png"),  # BUSI
        ("benign (1).png", "benign (1)_mask_1.png"),  # BUSI, a second lesion
        ("ISIC_0000000.jpg", "ISIC_0000000_segmentation.png"),  # ISIC 2016 to 2018
        ("images/COVID-1.png", "masks/COVID-1.png"),  # COVID-19 Radiography Database
        ("BraTS_001_t1.png", "BraTS_001_t1_seg.png"),
        ("images/series/1.png", "masks/series/1.png"),
    ],
)
def test_masks_in_class_folders_are_left_out_and_said(
    tmp_path: Path, save_image: SaveImage, image: str, mask: str
) -> None:
    for label in ("benign", "malignant"):
        save_image(tmp_path / label / image)
        save_image(tmp_path / label / mask)
    manifest = scan(tmp_path, name="busi")
    assert manifest.classes == ("benign", "malignant")
    assert set(manifest.files.values()) == {f"{label}/{image}" for label in manifest.classes}
    assert {path: text.startswith(MASK) for path, text in manifest.problems} == {
        f"{label}/{mask}": True for label in manifest.classes
    }


def test_a_mask_without_its_image_is_an_image(tmp_path: Path, save_image: SaveImage) -> None:
    for label in ("with_mask", "without_mask"):
        save_image(tmp_path / label / f"1_{label}.png")
    assert len(scan(tmp_path, name="faces").usable) == 2


def test_a_folder_of_masks_beside_that_of_the_classes_is_no_class(
    tmp_path: Path, save_image: SaveImage
) -> None:
    for folder in ("images", "masks"):
        for label in ("benign", "malignant"):
            save_image(tmp_path / folder / label / "1.png")
    manifest = scan(tmp_path, name="beside")
    assert manifest.classes == ("benign", "malignant")
    assert len(manifest.usable) == 2


def _mask(path: Path, size: tuple[int, int] = (8, 6)) -> None:
    picture = np.zeros(size[::-1], np.uint8)
    picture[2:4, 2:5] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.mark.parametrize(
    ("image", "mask"),
    [("images/1.png", "lesions/1.png"), ("1.png", "1.bmp"), ("1.png", "drawn/by hand/1.png")],
)
def test_masks_are_known_by_what_they_are(
    tmp_path: Path, save_image: SaveImage, image: str, mask: str
) -> None:
    for label in ("benign", "malignant"):
        save_image(tmp_path / label / image)
        _mask(tmp_path / label / mask)
    first = scan(tmp_path, name="drawn")
    for manifest in (first, scan(tmp_path, name="drawn", previous=first)):
        assert set(manifest.files.values()) == {f"{label}/{image}" for label in manifest.classes}
        assert all(why.startswith(MASK) and "content" in why for _, why in manifest.problems)
    kept = scan(tmp_path, name="drawn", previous=first, reading=Reading(keep_masks=True))
    assert len(kept.usable) == 4
    (tmp_path / "benign" / image).unlink()
    assert f"benign/{mask}" in scan(tmp_path, name="drawn", previous=first).files.values()


def test_pictures_of_two_values_that_are_no_masks_are_images(
    tmp_path: Path, save_image: SaveImage
) -> None:
    save_image(tmp_path / "photo" / "1.png")
    _mask(tmp_path / "ink" / "1.png")  # of another class
    save_image(tmp_path / "ink" / "a" / "2.png")
    _mask(tmp_path / "ink" / "b" / "2.png", (9, 6))  # of another size
    _mask(tmp_path / "ink" / "c" / "3.png")
    _mask(tmp_path / "ink" / "d" / "3.png")  # of a picture that is one itself
    assert scan(tmp_path, name="ink").problems == []


def test_keep_masks_on_the_command_line_is_remembered(
    tmp_path: Path, save_image: SaveImage
) -> None:
    for name in ("data/a/1.png", "data/a/1_mask.png", "data/b/2.png"):
        save_image(tmp_path / name)
    for arguments, count in (((), 2), (("--keep-masks",), 3), ((), 3), (("--no-keep-masks",), 2)):
        answer = call("scan", "m", "--data", "data", *arguments, cwd=tmp_path)
        assert f"{count} usable images" in answer.out, answer


def test_keep_masks_in_the_card_keeps_them(tmp_path: Path, save_image: SaveImage) -> None:
    for name in ("a/1.png", "a/1_mask.png", "b/2.png"):
        save_image(tmp_path / name)
    card = plain_card("kept", ("a", "b")).model_copy(update={"keep_masks": True})
    assert len(scan(tmp_path, name="kept", card=card).usable) == 3


@pytest.mark.parametrize("tag", ["PatientID", "StudyInstanceUID"])
def test_slices_of_one_patient_stay_on_one_side(tmp_path: Path, tag: str) -> None:
    for patient in range(8):
        label = "benign" if patient % 2 else "malignant"
        for number in range(4):
            # Folders do not tell the patients apart: only the headers do.
            path = tmp_path / label / f"IM{patient}{number}"
            write_dicom(path, 10 * patient + number, **{tag: f"1.2.{patient}"})
    manifest = scan(tmp_path, name="slices")
    groups = np.array(manifest.strings("group"))
    by_patient = [path.rpartition("IM")[2][0] for path in manifest.paths]
    assert len(set(groups)) == len(set(zip(groups, by_patient, strict=True))) == 8
    split = draw_split(manifest, test_share=0.3, seed=0)
    assert not set(groups[split.train]) & set(groups[split.test])


def test_nothing_that_a_header_says_of_a_person_is_stored(tmp_path: Path) -> None:
    for number in range(4):
        person = {"PatientID": f"MRN-77{number}", "PatientName": f"Doe^Jane{number}"}
        write_dicom(tmp_path / "ab"[number % 2] / f"{number}.dcm", number, **person)
    manifests.write(scan(tmp_path, name="people"), tmp_path / "manifest.parquet")
    table = str(pq.read_table(tmp_path / "manifest.parquet").to_pydict())
    assert "MRN" not in table
    assert "Doe" not in table


def test_one_patient_id_for_all_is_none(tmp_path: Path) -> None:
    for number in range(6):
        write_dicom(
            tmp_path / ("a" if number % 2 else "b") / f"{number}.dcm", number, PatientID="ANON"
        )
    assert set(scan(tmp_path, name="anonymous").strings("group")) == {""}


def test_folders_between_class_and_images_are_patients(
    tmp_path: Path, save_image: SaveImage
) -> None:
    for label, patients in (("benign", "AB"), ("malignant", "CD")):
        for patient in patients:
            save_image(tmp_path / label / f"P{patient}" / "series" / "1.png")
            save_image(tmp_path / label / f"P{patient}" / "series" / "2.png")
    groups = scan(tmp_path, name="folders").strings("group")
    assert groups == [f"P{patient}" for patient in "AABBCCDD"]


def test_the_same_few_folders_in_every_class_are_no_patients(
    tmp_path: Path, save_image: SaveImage
) -> None:
    for label in ("benign", "malignant"):
        for view in ("axial", "coronal"):
            save_image(tmp_path / label / view / "1.png")
    assert set(scan(tmp_path, name="views").strings("group")) == {""}


def test_a_csvs_group_wins_over_the_header(tmp_path: Path) -> None:
    for number in range(2):
        write_dicom(tmp_path / f"{number}.dcm", number, PatientID=f"header-{number}")
    text = "path,label,group\n0.dcm,a,mine\n1.dcm,b,mine\n"
    (tmp_path / "images.csv").write_text(text)
    assert scan(tmp_path / "images.csv", name="own").strings("group") == ["mine", "mine"]


@pytest.mark.parametrize(
    "names",
    [
        ("seg_train", "seg_test"),  # Intel image classification
        ("train_data", "test_data"),
        ("trainset", "testset"),
        ("TrainImages", "TestImages"),
        ("imagesTr", "imagesTs"),  # nnU-Net
        ("Brain-Training", "Brain-Testing"),
    ],
)
def test_split_folders_of_other_names_are_no_classes(
    tmp_path: Path, save_image: SaveImage, names: tuple[str, str]
) -> None:
    for split in names:
        for label in ("healthy", "tumour"):
            save_image(tmp_path / split / label / "1.png")
    manifest = scan(tmp_path, name="named")
    assert manifest.classes == ("healthy", "tumour")
    sides = zip(manifest.paths, manifest.strings("split"), strict=True)
    assert {path.split("/")[0]: side for path, side in sides} == dict(
        zip(names, ("train", "test"), strict=True)
    )


@pytest.mark.parametrize("names", [("fold0", "fold1"), ("train", "val"), ("train1", "train2")])
def test_folders_that_look_like_splits_are_refused_as_classes(
    tmp_path: Path, save_image: SaveImage, names: tuple[str, str]
) -> None:
    for split in names:
        for label in ("healthy", "tumour"):
            save_image(tmp_path / split / label / "1.png")
    with pytest.raises(DataError, match=r"look(s)? like (a )?split(.|\n)*card"):
        scan(tmp_path, name="folds")


@pytest.mark.parametrize("name", ["latest", "contest", "validus", "trained_on", "tested positive"])
def test_words_that_hold_a_splits_name_are_classes(
    tmp_path: Path, save_image: SaveImage, name: str
) -> None:
    for label in (name, "zz"):
        save_image(tmp_path / label / "1.png")
    assert scan(tmp_path, name="words").classes == (name, "zz")


@pytest.mark.parametrize("word", ["val", "valid", "Validation"])
def test_a_csvs_validation_split_is_never_test(folder: Path, word: str) -> None:
    lines = [
        "path,label,split",
        "Training/cat/1.png,cat,train",
        "Training/dog/1.png,dog,train",
        f"Training/cat/2.png,cat,{word}",
        "Testing/dog/1.png,dog,test",
    ]
    (folder / "images.csv").write_text("\n".join(lines))
    manifest = scan(folder / "images.csv", name="pets")
    assert manifest.problems == [("Training/cat/2.png", NOT_VALIDATED)]
    usable = [manifest.strings("split")[row] for row in manifest.usable]
    assert sorted(usable) == ["test", "train", "train"]


@pytest.mark.parametrize("use", ["none", "train", "keep"])
def test_a_validation_split_trains_only_if_the_card_says_so(
    folder: Path, save_image: SaveImage, card: Card, use: str
) -> None:
    save_image(folder / "Validation" / "dog" / "9.png")
    own = card.model_copy(update={"use_validation": use})
    lines = ["path,label,split", "Validation/dog/9.png,dog,val"]
    for split in ("Training", "Testing"):
        lines += [f"{split}/{c}/1.png,{c},{split}" for c in ("cat", "dog")]
    (folder / "images.csv").write_text("\n".join(lines))
    for source in (folder, folder / "images.csv"):
        manifest = scan(source, name="pets", card=own)
        sides = dict(zip(manifest.paths, manifest.strings("split"), strict=True))
        place = "Validation/dog/9.png"
        expected = {"none": ("", NOT_VALIDATED), "train": ("train", None)}
        assert (sides.pop(place), dict(manifest.problems).get(place)) == expected.get(
            use, ("validation", None)
        )
        assert set(sides.values()) == {"train", "test"}


def test_labels_are_compared_without_blanks_and_composed(folder: Path) -> None:
    lines = [
        "path,label,group",
        "Training/cat/1.png,ad\u00e9nome,P1",
        "Training/cat/2.png,ade\u0301nome ,P1 ",
        "Training/dog/1.png, healthy,P2",
        "Training/dog/2.png,healthy, P2",
    ]
    (folder / "images.csv").write_text("\n".join(lines), encoding="utf-8")
    manifest = scan(folder / "images.csv", name="pets")
    assert manifest.classes == ("ad\u00e9nome", "healthy")
    assert set(manifest.strings("group")) == {"P1", "P2"}


@pytest.mark.parametrize("other", ["Benign", "\uff42enign"])
def test_classes_that_differ_in_case_or_width_alone_are_shown(folder: Path, other: str) -> None:
    text = f"path,label\nTraining/cat/1.png,benign\nTraining/dog/1.png,{other}\n"
    (folder / "images.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"(?=.*'benign')(?=.*'{other}').*case or width"):
        scan(folder / "images.csv", name="pets")
