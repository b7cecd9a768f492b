"""What every command has in common: flags anywhere, the cache's place, names nearly right."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets.conftest import write_dicom
from tests.stages.conftest import Medfocus, make_images


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("masks", "mine", "--profile", "oflfine"), "Did you mean offline?"),
        (("probe", "mine", "--row", "liner:original"), "Did you mean linear?"),
        (("embed", "mine", "--focus", "segmentd"), "Did you mean segmented?"),
        (("embed", "mine", "--encoder", "open_clib"), "Did you mean open_clip?"),
        (("masks", "mine", "--segmenter", "medsan"), "Did you mean medsam?"),
        (("reproduce", "mine", "--rows", "medfocs"), "Did you mean medfocus?"),
    ],
)
def test_a_name_that_is_nearly_right_is_guessed(
    medfocus: Medfocus, images: Path, arguments: tuple[str, ...], told: str
) -> None:
    answer = medfocus(*arguments, "--data", images)
    assert answer.code == 2
    assert told in " ".join(answer.err.split())


def test_a_name_of_nothing_is_not_guessed(medfocus: Medfocus) -> None:
    answer = medfocus("masks", "mine", "--profile", "xyzzy")
    assert answer.code == 2
    assert "Did you mean" not in answer.err


def test_quiet_may_stand_anywhere_and_leaves_results_alone(
    medfocus: Medfocus, images: Path
) -> None:
    start = ("mine", "--data", images, "--profile", "imagenet")
    for arguments in (("-q", "masks", *start), ("embed", "mine", "--quiet"), ("status", "-q")):
        answer = medfocus(*arguments)
        assert (answer.code, answer.err) == (0, "")
        assert answer.out


def test_the_cache_may_be_named_by_the_environment(
    medfocus: Medfocus, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDFOCUS_CACHE", str(tmp_path / "elsewhere"))
    assert medfocus("scan", "mine", "--data", images).code == 0
    assert (tmp_path / "elsewhere" / "mine" / "manifest.parquet").exists()
    assert not (tmp_path / "cache").exists()


def test_scan_says_that_one_class_cannot_be_probed(medfocus: Medfocus, tmp_path: Path) -> None:
    (make_images(tmp_path / "images", train=4) / "square").rename(tmp_path / "elsewhere")
    answer = medfocus("scan", "mine", "--data", tmp_path / "images")
    assert answer.code == 0
    assert "make probe will refuse this:" in answer.out
    assert "'disc'; expected two or more" in answer.out


def test_scan_says_of_how_many_files_one_picture_alone_is_seen(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    images = make_images(tmp_path / "images", train=3)
    pages = [Image.fromarray(np.full((9, 9), level, np.uint8)) for level in (10, 200)]
    pages[0].save(images / "disc" / "pages.tif", save_all=True, append_images=pages[1:])
    np.save(images / "disc" / "array.npy", np.zeros(3))
    answer = medfocus("scan", "mine", "--data", images)
    said = " ".join(answer.out.split())
    assert "1 file holds several pictures, 2 pages: of each the first one alone is seen" in said
    assert "1 file is of kinds that are not read: .npy 1" in answer.out


@pytest.mark.parametrize("how", ["headers", "folders", "CSV"])
def test_scan_says_how_many_patients_there_are_and_who_told(
    medfocus: Medfocus, tmp_path: Path, how: str
) -> None:
    lines = ["path,label,group"]
    for patient in range(4):
        for number in range(3):
            label = "ab"[patient % 2]
            folder = f"{label}/P{patient}" if how == "folders" else label
            path = f"{folder}/{patient}{number}.dcm"
            tags = {"PatientID": f"MRN{patient}"} if how == "headers" else {}
            write_dicom(tmp_path / "slices" / path, 10 * patient + number, **tags)
            lines.append(f"{path},{label},{'' if path.endswith('32.dcm') else patient}")
    (tmp_path / "slices" / "mine.csv").write_text("\n".join(lines) + "\n")
    data = tmp_path / "slices" / ("mine.csv" if how == "CSV" else "")
    answer = medfocus("scan", "mine", "--data", data)
    told = {
        "headers": "4 patients, by the headers of the files",
        "folders": "4 patients, by the folders or files that they lie in",
        "CSV": "4 patients, by the card or the CSV",
    }
    said = " ".join(answer.out.split())
    assert f"{told[how]}: those of one stay on one side of the split" in said
    assert ("of 1 image it is not known" in said) == (how == "CSV")
