"""Files that hold several pictures: volumes, frames, pages."""

import re
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

from medfocus_pipeline.datasets import contents as scanning
from medfocus_pipeline.datasets.card import Card, Volumes, plain_card
from medfocus_pipeline.datasets.contents import SEVERAL, TOO_MANY
from medfocus_pipeline.datasets.scan import scan
from medfocus_pipeline.datasets.splits import test_split as draw_split
from medfocus_pipeline.project.dataset import Dataset
from tests.datasets.test_volumes import _dicom, _save
from tests.stages.conftest import call

SLICES = 5


def _pictures(seed: int) -> np.ndarray:
    """``(5, 4, 3) uint8``: the number of the picture in one corner, noise in the others."""
    values = np.random.default_rng(seed).integers(100, 200, (SLICES, 4, 3), dtype=np.uint8)
    values[:, 0, 0], values[:, 3, 2] = range(SLICES), 255
    values[:, 1, 1] = 0
    return values


def _volume(path: Path, values: np.ndarray) -> None:
    # Row and column of a picture from an axial slice: left is right, top is front.
    nibabel.save(
        nibabel.Nifti1Image(np.rot90(values, -1, (1, 2)).transpose(1, 2, 0), np.eye(4)), path
    )


def _frames(path: Path, values: np.ndarray) -> None:
    _save(path, _dicom(values))


def _pages(path: Path, values: np.ndarray) -> None:
    first, *others = map(PIL.Image.fromarray, values)
    first.save(path, save_all=True, append_images=others)


WRITERS: dict[str, Callable[[Path, np.ndarray], None]] = {
    ".nii.gz": _volume,
    ".dcm": _frames,
    ".tif": _pages,
}


def _card(volumes: Volumes) -> Card:
    return plain_card("volumes", ("ill", "well")).model_copy(update={"volumes": volumes})


@pytest.fixture(params=WRITERS)
def ending(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Two classes of four files with several pictures each, and one with one."""
    for label in ("ill", "well"):
        (tmp_path / label).mkdir()
        PIL.Image.fromarray(_pictures(9)[0] + len(label)).save(tmp_path / label / "one.png")
        for number in range(4):
            seed = number + 10 * len(label)
            WRITERS[request.param](tmp_path / label / f"{number}{request.param}", _pictures(seed))
    return str(request.param)


def test_all_pictures_of_a_file_are_images_of_one_group(tmp_path: Path, ending: str) -> None:
    manifest = scan(tmp_path, name="volumes", card=_card("all"))
    assert manifest.problems == []
    assert len(manifest.files) == len(manifest) == 2 + 2 * 4 * SLICES
    groups = np.array(manifest.strings("group"))
    assert set(groups) == {""} | {f"{c}/{n}{ending}" for c in ("ill", "well") for n in range(4)}
    split = draw_split(manifest, test_share=0.4, seed=0)
    assert not (set(groups[split.train]) & set(groups[split.test])) - {""}
    dataset = Dataset(tmp_path, _card("all"), None, manifest, manifest.files)
    ids = dict(zip(manifest.paths, manifest.image_ids, strict=True))
    for number in range(SLICES):
        seen = dataset.read(ids[f"ill/2{ending}/{number:04d}"])
        meant = _pictures(2 + 10 * len("ill"))[number]
        assert np.abs(seen[..., 0].astype(int) - meant).max() <= 1


def test_files_that_are_as_they_were_are_not_opened_again(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {choice: scan(tmp_path, name="v", card=_card(choice)) for choice in ("all", "middle")}
    opened: list[str] = []
    decode = scanning.decode

    def spy(path: Path, number: int | None = None) -> object:
        opened.append(path.name)
        return decode(path, number)

    monkeypatch.setattr(scanning, "decode", spy)
    for choice, manifest in before.items():
        assert scan(tmp_path, name="v", card=_card(choice), previous=manifest) is manifest
    refused = scan(tmp_path, name="v", card=_card("refuse"), previous=before["middle"])
    assert opened == []
    assert {problem for _, problem in refused.problems} == {SEVERAL}
    assert len(refused.usable) == 2
    again = scan(tmp_path, name="v", card=_card("middle"), previous=refused)
    assert again.table.equals(before["middle"].table)
    turned = scan(tmp_path, name="v", card=_card("all"), previous=before["middle"])
    assert turned.table.equals(before["all"].table)
    assert all(name.endswith(ending) for name in opened)


def test_without_a_word_in_the_card_one_picture_of_a_file_is_seen(
    tmp_path: Path, ending: str
) -> None:
    manifest = scan(tmp_path, name="volumes")
    assert len(manifest.files) == 10
    place = {".nii.gz": "slice 3/5", ".dcm": "frame 3/5", ".tif": "page 1/5"}[ending]
    assert sum(mode.endswith(place) for mode in manifest.strings("mode")) == 8


def test_a_header_that_promises_too_many_is_refused(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "MAX_PICTURES", 4)
    manifest = scan(tmp_path, name="volumes", card=_card("all"))
    assert {why for _, why in manifest.problems} == {TOO_MANY}
    assert len(manifest.usable) == 2


@pytest.mark.parametrize(
    ("volumes", "said"),
    [
        ("middle", "8 files hold several pictures, 40 .*: of each the (middle|first) one alone"),
        (
            "all",
            "8 files hold several pictures, 40 .*: each is an image, those of a file one group",
        ),
        ("refuse", "8 files were left out.*volumes: refuse"),
    ],
)
def test_scan_says_what_is_seen_of_them_with_the_number(
    tmp_path: Path, ending: str, volumes: str, said: str
) -> None:
    classes = "classes: [{name: ill, prompt: ill}, {name: well, prompt: well}]"
    (tmp_path / "card.yaml").write_text(f"title: V\nvolumes: {volumes}\n{classes}\n")
    answer = call("scan", "v", "--data", tmp_path, cwd=tmp_path)
    assert re.search(said, " ".join(answer.out.split())), answer
