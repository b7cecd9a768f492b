"""The gate as a user meets it: ``gate`` on drawn sides, ``scan --gate``, ``predict``, ``audit``."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from medfocus_pipeline import Project
from medfocus_pipeline.commands import report
from medfocus_pipeline.commands.report.chapters import gate_chapter
from medfocus_pipeline.datasets.phantoms.phantom import draw
from medfocus_pipeline.project.looking import Looked
from medfocus_pipeline.project.progress import Advance
from medfocus_pipeline.project.settings import open_context
from tests.stages.conftest import Medfocus, call, medfocus

__all__ = ["medfocus"]

SHARED = Path(__file__).parents[3] / "shared" / "data"
USUAL = 24
TUNED = "fine-tuned efficientnet-lite0"


def screenshot(path: Path) -> Path:
    """A window with a menu and lines of text."""
    image = Image.new("RGB", (640, 400), "white")
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, 640, 28), fill=(52, 90, 160))
    pen.rectangle((0, 28, 140, 400), fill=(232, 234, 238))
    for line in range(18):
        pen.text(
            (160, 44 + 19 * line), "The patient agrees that this form is kept. " * 2, fill="black"
        )
    image.save(path)
    return path


def photographs() -> list[Path]:
    """Those that scikit-learn comes with."""
    from sklearn import datasets

    folder = Path(datasets.__file__).parent / "images"
    return sorted(folder.glob("*.jpg"))


def make_folder(root: Path) -> dict[str, Path]:
    """Drawn brains of two classes and, among them, two photographs and a screenshot.

    Returns:
        The three by their path in the folder.
    """
    for index in range(USUAL):
        name = ("glioma", "notumor")[index % 2]
        (root / name).mkdir(parents=True, exist_ok=True)
        label = name if index % 2 == 0 else "notumor"
        picture = draw("brain", 0, index, size=128, label=label).image
        Image.fromarray(picture[..., 0]).save(root / name / f"{index}.png")
    found = {}
    for number, path in enumerate(photographs()):
        place = f"{('glioma', 'notumor')[number % 2]}/{path.name}"
        shutil.copy(path, root / place)
        found[place] = root / place
    found["notumor/screen.png"] = screenshot(root / "notumor/screen.png")
    return found


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images that the gate has seen, and a classifier with its gate."""
    folder = tmp_path_factory.mktemp("gated")
    make_folder(folder / "images")
    run = partial(call, cwd=folder)
    commands = (
        ("scan", "mix", "--data", "images", "--profile", "imagenet", "--gate"),
        ("masks", "mix"),
        ("embed", "mix", "--focus", "original", "--views", "identity", "--set", "roi_parts=false"),
        ("probe", "--row", "linear:original", "--fractions", "100", "--seeds", "1"),
        ("export", "--head", "linear", "--focus", "original", "--out", "model"),
    )
    for command in commands:
        answer = run(*command)
        assert answer.code == 0, answer
    return folder


@pytest.fixture
def mix(gated: Path, tmp_path: Path, medfocus: Medfocus) -> Medfocus:
    """The command line in a copy of it."""
    shutil.copytree(gated, tmp_path, dirs_exist_ok=True)
    settings = tmp_path / "cache/mix/settings.json"
    settings.write_text(settings.read_text().replace(str(gated), str(tmp_path)))
    return medfocus


def left_out(medfocus: Medfocus, *more: str) -> dict[str, str]:
    answer = medfocus("scan", "mix", "--data", "images", *more, "--json")
    assert answer.code == 0, answer
    found: dict[str, str] = json.loads(answer.out)["left_out"]
    return found


def test_photographs_and_a_screenshot_are_left_out_with_their_score(mix: Medfocus) -> None:
    problems = left_out(mix)
    strangers = {f"{('glioma', 'notumor')[n]}/{p.name}" for n, p in enumerate(photographs())}
    assert set(problems) == strangers | {"notumor/screen.png"}
    rows = pq.read_table("cache/mix/manifest.parquet").to_pylist()
    scores = {row["path"]: row["gate_score"] for row in rows}
    assert len(scores) == USUAL + 3
    for path, score in scores.items():
        assert (score < 0) == (path in problems)
    why = problems["notumor/screen.png"]
    assert f"score {scores['notumor/screen.png']:.2f}" in why
    assert "--keep" in why


def test_real_brain_images_hide_neither_photographs_nor_a_screenshot(
    tmp_path: Path, medfocus: Medfocus
) -> None:
    if not SHARED.is_dir():
        pytest.skip("the development images are not beside the repository")
    for name in ("glioma", "notumor"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for path in sorted((SHARED / "brain/Testing" / name).glob("*.jpg"))[:15]:
            shutil.copy(path, tmp_path / "images" / name)
    for path in sorted((SHARED / "photos").glob("*.jpg"))[:50:10]:
        shutil.copy(path, tmp_path / "images/glioma")
    screenshot(tmp_path / "images/notumor/screen.png")
    problems = left_out(medfocus, "--profile", "imagenet", "--gate")
    names = {Path(path).name for path in problems}
    assert names == {"000.jpg", "010.jpg", "020.jpg", "030.jpg", "040.jpg", "screen.png"}


def test_a_file_that_is_named_is_kept(mix: Medfocus) -> None:
    assert "notumor/screen.png" not in left_out(mix, "--keep", "screen.png")
    assert "notumor/screen.png" not in left_out(mix), "it is remembered"
    rows = pq.read_table("cache/mix/manifest.parquet").to_pylist()
    [kept] = [row for row in rows if row["path"] == "notumor/screen.png"]
    assert kept["gate_score"] < 0
    assert kept["problem"] == ""


def test_without_the_gate_all_are_images_again(mix: Medfocus) -> None:
    assert left_out(mix, "--no-gate") == {}
    assert left_out(mix) == {}, "it is remembered"
    scores = pq.read_table("cache/mix/manifest.parquet")["gate_score"]
    assert scores.null_count == USUAL + 3


def test_each_image_is_looked_at_once(mix: Medfocus) -> None:
    looked: list[int] = []

    @contextmanager
    def progress(what: str, total: int) -> Iterator[Advance]:
        if what == "looking at new images":
            looked.append(total)
        yield lambda *_: None

    before = pq.read_table("cache/mix/manifest.parquet").to_pylist()
    Project.open("mix", data="images", progress=progress)
    assert looked == []
    new = draw("brain", 0, 99, size=128, label="glioma").image
    Image.fromarray(new[..., 0]).save("images/glioma/99.png")
    project = Project.open("mix", data="images", progress=progress)
    assert looked == [1]
    after = {row["path"]: row for row in project.dataset.manifest.table.to_pylist()}
    assert after["glioma/99.png"]["gate_score"] is not None
    for row in before:
        assert after[row["path"]]["gate_score"] == row["gate_score"]


def test_a_gate_whose_file_is_damaged_is_made_anew(mix: Medfocus) -> None:
    before = pq.read_table("cache/mix/manifest.parquet")["gate_score"].to_pylist()
    path = Path("cache/mix/gate/gate.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    assert len(left_out(mix)) == 3
    after = pq.read_table("cache/mix/manifest.parquet")["gate_score"].to_pylist()
    assert after == pytest.approx(before, abs=1e-3)


def test_a_profile_can_ask_for_the_gate(mix: Medfocus) -> None:
    shutil.rmtree("cache")
    Path("mine.yaml").write_text("gate: true\nembed: {encoder: {name: efficientnet-lite0}}\n")
    assert len(left_out(mix, "--profile", "mine.yaml")) == 3


def test_the_report_shows_what_the_gate_left_out(mix: Medfocus) -> None:
    found = report.gather(open_context("mix", data=None, cache=Path("cache"), profile=None))
    [chapter] = found.chapters
    [gallery] = chapter.galleries
    assert {tile.name for tile in gallery.tiles} == set(left_out(mix))
    assert all(tile.pictures and float(tile.facts["score"]) < 0 for tile in gallery.tiles)


def test_images_that_are_embedded_already_need_no_pass_of_the_network(
    mix: Medfocus, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pq.read_table("cache/mix/manifest.parquet").to_pylist()
    shutil.rmtree("cache/mix/gate")
    seen: list[int] = []
    network = Looked._seen

    def spy(self: Looked, root: Path, files: dict[str, str]) -> dict[str, np.ndarray]:
        seen.append(len(files))
        return network(self, root, files)

    monkeypatch.setattr(Looked, "_seen", spy)
    assert len(left_out(mix, "--gate")) == 3
    assert sum(seen) == 3, "those that were left out were not embedded"
    after = {row["path"]: row["gate_score"] for row in _rows()}
    for row in before:
        assert after[row["path"]] == pytest.approx(row["gate_score"], abs=0.02)


def _rows() -> list[dict[str, Any]]:
    return pq.read_table("cache/mix/manifest.parquet").to_pylist()


def test_too_few_images_have_no_gate_of_their_own(tmp_path: Path, medfocus: Medfocus) -> None:
    make_folder(tmp_path / "images")
    for path in sorted((tmp_path / "images").rglob("*.png"))[:-12]:
        path.unlink()
    answer = medfocus("scan", "few", "--data", "images", "--profile", "imagenet", "--gate")
    assert answer.code == 1
    assert "14 images are too few" in answer.err
    assert "Traceback" not in answer.err


def test_predict_answers_that_a_photograph_is_no_medical_image(mix: Medfocus) -> None:
    photograph = str(photographs()[0])
    brain = "images/glioma/0.png"
    answer = mix("predict", photograph, brain, "--from", "model")
    assert "not a medical image" in answer.out
    assert "gate score -" in answer.out
    told = json.loads(mix("predict", photograph, brain, "--from", "model", "--json").out)
    first, second = told["images"]
    assert first["predicted"] == "not a medical image"
    assert first["gate_score"] < 0 < second["gate_score"]
    assert second["predicted"] in {"glioma", "notumor"}
    assert "a gate refuses" in Path("model/README.md").read_text(encoding="utf-8")


def test_audit_lists_what_looks_like_no_medical_image(mix: Medfocus) -> None:
    left_out(mix, "--keep", "screen.png")
    answer = mix("audit", "mix")
    assert "3 labelled files look like no medical image:" in answer.out
    assert "'notumor/screen.png' score -" in answer.out
    listed = json.loads(Path("cache/mix/audit.json").read_text())["not_medical"]
    assert len(listed) == 3
    left_out(mix, "--no-gate")
    assert "no gate looked at the images: medfocus scan mix --gate" in mix("audit", "mix").out


def test_drawn_sides_go_through_every_method(medfocus: Medfocus) -> None:
    drawn = medfocus("phantom", "mixed", "--train", "12", "--test", "6", "--size", "32")
    assert "next: make gate DATASET=phantom-mixed" in drawn.out
    quick = ("--set", "one_class=[{name: oc_nn, epochs: 2}, {name: mahalanobis}]")
    quick += ("--set", "network.epochs=2")
    answer = medfocus("gate", "phantom-mixed", *quick)
    assert answer.code == 0, answer
    assert "phantom-mixed: profile offline" in answer.out
    for name in ("zero-shot, best phrase", "OC-NN", "Mahalanobis", "linear probe", TUNED):
        assert name in answer.out
    for split in ("train", "validation", "test"):
        assert f"{split}: P / R / F1" in answer.out
    folder = Path("cache/phantom-mixed/gate")
    table = pq.read_table(folder / "gate.parquet").to_pandas()
    assert len(table) == 7 * (12 + 6 + 6)
    assert set(table["split"]) == {"train", "validation", "test"}
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "Errors of" in page
    assert "ROC and precision-recall curves" in page
    context = open_context("phantom-mixed", data=None, cache=Path("cache"), profile=None)
    [chapter] = gate_chapter(context, Project.of(context).dataset, errors=2)
    written = (folder / "gate.md").read_text(encoding="utf-8")
    for section in chapter.tables:
        assert f"#### {section.title}" in written
        for row in section.rows:
            assert row[1] == "needs weights" or f"| {' | '.join(row)} |" in written
    assert len(chapter.drawings) == 1


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("shapes", "--data", "images"), "called 'medical', got 'glioma', 'notumor'"),
        (("shapes", "--data", "images", "--methods", "oc_n"), "Did you mean oc_nn"),
        (("shapes", "--data", "images", "--parts", "all"), "expected one of original"),
        (("shapes", "--data", "nowhere"), "is not at"),
    ],
    ids=["no medical class", "method", "part", "data"],
)
def test_nonsense_is_one_message(
    tmp_path: Path, medfocus: Medfocus, arguments: tuple[str, ...], why: str
) -> None:
    for number, name in enumerate(("glioma", "notumor")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(2):
            picture = draw("brain", number, index, size=32).image
            Image.fromarray(picture).save(tmp_path / "images" / name / f"{index}.png")
    answer = medfocus("gate", *arguments, "--profile", "imagenet")
    assert answer.code in {1, 2}
    assert why in answer.err
    assert "Traceback" not in answer.err
