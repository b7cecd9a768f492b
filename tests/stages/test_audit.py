"""``medfocus audit`` on drawn images with planted copies."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.stages.conftest import Medfocus, draw

PLANTED = 17


def found(path: Path = Path("cache/shapes")) -> dict[str, dict[str, int]]:
    described = json.loads((path / "audit.json").read_text())
    return {one["kind"]: one for one in described["findings"]}


@pytest.fixture
def brain(tmp_path: Path) -> Path:
    """Four classes in Training and Testing, as the brain data is, with 17 byte-equal copies."""
    root = tmp_path / "brain"
    rng = np.random.default_rng(0)
    for index, name in enumerate(("glioma", "meningioma", "notumor", "pituitary")):
        for side, count, start in (("Training", 8, 0), ("Testing", 3, 100)):
            (root / side / name).mkdir(parents=True)
            for number in range(count):
                grey = rng.integers(0, 256, (40, 36), dtype=np.uint8)
                grey[0, 0] = index
                Image.fromarray(grey).save(root / side / name / f"{start + number}.png")
    for number in range(PLANTED):
        name = ("meningioma", "notumor", "pituitary")[number % 3]
        source = root / "Training" / name / f"{number // 3}.png"
        shutil.copy(source, root / "Testing" / name / f"copy {number}.png")
    return root


def test_every_byte_equal_image_on_both_sides_is_found(medfocus: Medfocus, brain: Path) -> None:
    answer = medfocus("audit", "brain", "--data", brain, "--profile", "imagenet")
    assert answer.code == 0, answer
    assert "17 of 29 test images are also among the training images" in answer.out
    assert "equal files" in answer.out
    kinds = found(Path("cache/brain"))
    assert kinds["bytes"]["across_splits"] == kinds["bytes"]["test_images"] == PLANTED
    assert kinds["bytes"]["pairs"] == PLANTED
    assert kinds["pixels"]["pairs"] == kinds["perceptual"]["pairs"] == 0
    rows = pq.read_table("cache/brain/audit.parquet").to_pylist()
    assert len(rows) == PLANTED
    for row in rows:
        assert row["first_path"].startswith("Training/")
        assert row["second_path"].startswith("Testing/")
        assert row["first_image_id"] == row["second_image_id"]


def test_shared_images_fail_a_strict_audit_only(
    medfocus: Medfocus, brain: Path, images: Path
) -> None:
    assert medfocus("audit", "brain", "--data", brain, "--profile", "imagenet").code == 0
    assert medfocus("audit", "brain", "--strict").code == 1
    clean = medfocus("audit", "shapes", "--data", images, "--profile", "imagenet", "--strict")
    assert clean.code == 0, clean
    assert "no test image of 16 was found in training" in clean.out


def test_pixels_near_copies_and_two_labels_are_found(medfocus: Medfocus, images: Path) -> None:
    picture = Image.open(images / "train/disc/disc 0.png")
    picture.save(images / "test/disc/same pixels.bmp")
    picture.resize((128, 128), Image.Resampling.BICUBIC).save(images / "test/square/larger.png")
    shutil.copy(images / "train/disc/disc 1.png", images / "train/disc/again [1].png")
    (images / "train/disc/broken.png").write_bytes(b"\x89PNG no more")
    answer = medfocus("audit", "shapes", "--data", images, "--profile", "imagenet")
    assert answer.code == 0, answer
    kinds = found()
    assert kinds["pixels"]["across_splits"] == 1
    assert kinds["bytes"]["pairs"] == 1
    assert kinds["bytes"]["across_splits"] == 0
    near = [
        row
        for row in pq.read_table("cache/shapes/audit.parquet").to_pylist()
        if row["kind"] == "perceptual" and row["second_path"] == "test/square/larger.png"
    ]
    assert ("train/disc/disc 0.png", "disc", "square") in {
        (row["first_path"], row["first_label"], row["second_label"]) for row in near
    }
    assert "'train/disc/again [1].png' = 'train/disc/disc 1.png'" in answer.out
    assert "'train/disc/broken.png'" in answer.out
    assert "1 of 18 test images are also among the training images" in answer.out


def test_a_second_audit_decodes_nothing_and_says_the_same(
    medfocus: Medfocus, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = medfocus("audit", "shapes", "--data", images, "--profile", "imagenet")
    written = Path("cache/shapes/audit.json").read_bytes()

    def refuse(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("medfocus_pipeline.project.fingerprints.fingerprints_of", refuse)
    again = medfocus("audit", "shapes")
    assert again.code == 0, again
    assert again.out == first.out
    assert Path("cache/shapes/audit.json").read_bytes() == written


def test_an_image_that_breaks_after_the_scan_is_left_out(
    medfocus: Medfocus, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert medfocus("scan", "shapes", "--data", images, "--profile", "imagenet").code == 0
    monkeypatch.setattr(
        "medfocus_pipeline.project.dataset.scan", lambda *_, previous, **__: previous
    )
    (images / "train/disc/disc 3.png").write_bytes(b"gone")
    answer = medfocus("audit", "shapes")
    assert answer.code == 0, answer
    assert "'train/disc/disc 3.png' is no image" in answer.out
    assert found()["bytes"]["compared"] == 39


def test_stores_stand_in_for_images_that_are_not_here(done: Medfocus) -> None:
    Path("images").rename("elsewhere")
    answer = done("audit", "shapes")
    assert answer.code == 0, answer
    assert "is not here" in answer.out
    kinds = found()
    assert kinds["pixels"]["compared"] == kinds["embedding"]["compared"] == 40
    assert "perceptual" not in kinds


def test_embeddings_are_compared_where_there_are_some(done: Medfocus) -> None:
    copy = Image.fromarray(np.clip(draw(0, 0).astype(int) + 1, 0, 255).astype(np.uint8))
    copy.save("images/test/square/brighter.png")
    without = done("audit", "shapes", "--cosine", "0.9999", "--distance", "0")
    assert found()["embedding"]["compared"] == 40
    assert "cosine at least 0.9999" in without.out
    assert "at most 0 of 64 bits differ" in without.out


def test_a_threshold_out_of_range_is_one_message(medfocus: Medfocus, images: Path) -> None:
    answer = medfocus("audit", "shapes", "--data", images, "--distance", "40")
    assert answer.code == 2
    assert "distance: Input should be less than or equal to 32" in answer.err


def test_a_data_set_that_cannot_be_split_is_audited_all_the_same(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    root = tmp_path / "one"
    (root / "disc").mkdir(parents=True)
    for number in range(2):
        Image.fromarray(draw(0, 7)).save(root / "disc" / f"{number}.png")
    answer = medfocus("audit", "one", "--data", root, "--profile", "imagenet")
    assert answer.code == 0, answer
    assert "split none: 'one' has one class only" in answer.out
    assert found(Path("cache/one"))["bytes"]["pairs"] == 1


def test_slices_of_patients_whom_nobody_named_suggest_a_grouping(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    lines = ["path,label,group"]
    for label in ("one", "two"):
        (tmp_path / "heads" / label).mkdir(parents=True)
        for number in range(24):
            if number % 4 == 0:
                head = rng.integers(0, 256, (6, 6)).astype(np.uint8)
            grey = Image.fromarray(head).resize((48, 48), Image.Resampling.BICUBIC)
            noisy = np.asarray(grey) + rng.normal(0, 6, (48, 48))
            picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
            picture.save(tmp_path / "heads" / label / f"IM{number}.png")
            lines.append(f"{label}/IM{number}.png,{label},{label}{number // 4}")
    (tmp_path / "heads" / "named.csv").write_text("\n".join(lines) + "\n")
    answer = medfocus("audit", "heads", "--data", "heads", "--profile", "imagenet")
    assert answer.code == 0, answer
    assert "48 files are in 12 such runs, the longest 'one/IM0.png' to 'one/IM3.png'" in answer.out
    described = json.loads(Path("cache/heads/audit.json").read_text())
    assert [len(run) for run in described["series"]] == [4] * 12
    named = medfocus("audit", "named", "--data", "heads/named.csv", "--profile", "imagenet")
    assert named.code == 0, named
    assert "follow one another" not in named.out
