"""What belongs to the user is left alone, and what is said can be read and relied on."""

import hashlib
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from medfocus_pipeline.commands import output
from tests.stages.conftest import Medfocus, draw, make_images

ROOT = Path(__file__).parents[2]


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def packed(done: Medfocus) -> Medfocus:
    answer = done("export", "--head", "linear", "--focus", "original", "--out", "pack")
    assert answer.code == 0, answer
    return done


@pytest.mark.parametrize(
    "command",
    [
        ("explain", "images/test/disc", "--from", "pack", "--out", "images/test/disc"),
        ("explain", "images/test/disc", "--from", "pack", "--out", "."),
        ("predict", "images/test/disc", "--from", "pack", "--overlay", "images"),
        ("report", "shapes", "--out", "images"),
        ("figure", "shapes", "--out", "images/test/disc/disc 0.png"),
        ("export", "--head", "linear", "--focus", "original", "--out", "images"),
    ],
    ids=lambda command: " ".join(command[:1] + command[-2:]),
)
def test_nothing_is_written_among_the_users_files(
    packed: Medfocus, tmp_path: Path, command: tuple[str, ...]
) -> None:
    before = hashes(tmp_path / "images")
    answer = packed(*command)
    assert answer.code == 2, answer
    assert re.search(r"Name (a new or empty folder|another)", answer.err)
    assert hashes(tmp_path / "images") == before


def test_no_rows_are_refused_and_the_table_stays(done: Medfocus, tmp_path: Path) -> None:
    place = tmp_path / "cache" / "shapes" / "results"
    before = hashes(place)
    answer = done("reproduce", "shapes", "--rows", "")
    assert answer.code == 2
    assert "--rows is empty" in answer.err
    assert hashes(place) == before


def test_names_that_differ_at_their_ends_stay_apart_in_a_narrow_window(
    packed: Medfocus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    folder = tmp_path / "a-folder-with-a-name-that-takes-much-of-a-line-of-the-terminal"
    folder.mkdir()
    names = [f"1.2.840.113619.2.55.3.{number}.png" for number in range(3)]
    for number, name in enumerate(names):
        Image.fromarray(draw(0, number)).save(folder / name)
    answer = packed("predict", folder, "--from", "pack")
    assert answer.code == 0, answer
    first_column = "".join(line.split()[0] for line in answer.out.splitlines() if line.strip())
    for name in names:
        assert f"{folder.name}/{name}" in first_column


def test_a_long_name_leaves_the_progress_bar_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    narrow = Console(file=shown, force_terminal=True, width=80)
    monkeypatch.setattr(output, "err", narrow)
    name = f"embedding {'a-name-of-a-model-that-goes-on-' * 4}its-end"
    with output.bar(name, 5) as advance:
        advance(3)
    last = [line for line in shown.getvalue().splitlines() if "3/5" in line][-1]
    assert "its-end" in last
    assert "━" in last


def test_patients_whom_nobody_named_are_said_where_accuracies_are(
    done: Medfocus, tmp_path: Path
) -> None:
    said = "patients unknown for 40 of 40 images"
    for command in (("audit",), ("probe", "--fractions", "50,100", "--seeds", "2")):
        assert said in " ".join(done(*command).out.split()), command
    assert done("report", "--images", "8").code == 0
    page = (tmp_path / "cache/shapes/report/index.html").read_text(encoding="utf-8")
    assert said[1:] in page


def test_a_strict_audit_fails_where_a_patient_is_on_both_sides(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    make_images(tmp_path / "images", train=3, test=2, size=16)
    lines = ["path,label,split,group"]
    for path in sorted((tmp_path / "images").rglob("*.png")):
        name = path.relative_to(tmp_path / "images").as_posix()
        split, label, file = name.split("/")
        group = "both" if file.endswith(" 0.png") else name
        lines.append(f"{name},{label},{split},{group}")
    (tmp_path / "images" / "all.csv").write_text("\n".join(lines) + "\n")
    command = ("audit", "mine", "--data", "images/all.csv", "--profile", "imagenet")
    assert medfocus(*command).code == 0
    strict = medfocus(*command, "--strict")
    assert strict.code == 1
    assert "1 patient is on both sides of the split: 'both'" in strict.out


def test_no_escape_code_of_a_name_reaches_the_terminal(medfocus: Medfocus, tmp_path: Path) -> None:
    make_images(tmp_path / "images", train=3, size=32)
    shutil.move(tmp_path / "images" / "disc", tmp_path / "images" / "red\x1b[31m\x07disc")
    masks = medfocus("masks", "mine", "--data", "images", "--profile", "imagenet")
    assert masks.code == 0, masks
    for answer in (masks, medfocus("scan", "mine"), medfocus("audit", "mine")):
        assert "disc" in answer.out
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", answer.out + answer.err)


def test_each_stage_says_what_it_found_and_what_comes_next(
    medfocus: Medfocus, images: Path
) -> None:
    masks = medfocus("masks", "shapes", "--data", images, "--profile", "imagenet")
    assert "disc" in masks.out
    assert "square" in masks.out
    assert medfocus("embed", "--focus", "original", "--views", "identity").code == 0
    probe = medfocus("probe", "--row", "linear:original", "--fractions", "100", "--seeds", "1")
    assert "next: make report DATASET=shapes, then make export DATASET=shapes" in probe.out


def test_make_takes_a_folder_with_blanks_for_one(tmp_path: Path) -> None:
    (tmp_path / "My scans").mkdir()
    make = ("make", "-n", "-C", ROOT, "predict", f"IMAGES={tmp_path}/My scans", "MODEL=pack")
    done = subprocess.run(make, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f'medfocus predict "{tmp_path}/My scans" --from "pack"' in done.stdout
