"""``medfocus report``: what is gathered, at every point of the way, and from any folder."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medfocus_pipeline.commands import report
from medfocus_pipeline.commands.report.tiles import pictures
from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.project.regions import Region
from medfocus_pipeline.project.settings import Context, open_context
from medfocus_pipeline.report.content import Gallery, Report
from medfocus_pipeline.report.page import write_page
from medfocus_pipeline.types import Roi
from tests.fakes import candidates, picture
from tests.stages.conftest import Medfocus, draw, make_images

CACHE = Path("cache")
FOLDER = CACHE / "shapes"

QUICK = """\
masks: {segmenter: {name: threshold}}
embed: {encoder: {name: efficientnet-lite0}, focus: [original, crop], views: [identity]}
probe: {rows: [{focus: [original]}, {focus: [crop]}], fractions: [100], seeds: 1}
"""

HOSTILE = "<b>bold<script>alert(1)<"


def context(name: str = "shapes", *, cache: Path = CACHE) -> Context:
    return open_context(name, data=None, cache=cache, profile=None)


@pytest.fixture(scope="module")
def root(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished data set; not to be changed."""
    root = tmp_path_factory.mktemp("reported")
    shutil.copytree(finished, root, dirs_exist_ok=True)
    settings = root / FOLDER / "settings.json"
    settings.write_text(settings.read_text().replace(str(finished), str(root)))
    return root


@pytest.fixture(scope="module")
def gathered(root: Path) -> Report:
    """What is gathered of it."""
    return report.gather(context(cache=root / CACHE))


def galleries(found: Report) -> dict[str, Gallery]:
    return {one.title: one for one in found.galleries}


def text(found: Report) -> str:
    """All words of a report but its pictures'."""
    notes = [*(one.note for one in found.galleries), found.mistakes.note, found.duplicates.note]
    facts = [value for part in found.provenance.values() for value in part.values()]
    words = [*found.summary.sentences, *found.summary.warnings, *notes, *facts, found.subtitle]
    return "\n".join(words)


def test_a_finished_data_set_becomes_a_page(
    root: Path, gathered: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.run(context(cache=root / CACHE))
    page = root / FOLDER / "report" / "index.html"
    assert f"page: {page}" in capsys.readouterr().out
    content = page.read_text(encoding="utf-8")
    assert len(content) < 2_000_000
    assert str(root) not in content
    names = {path.name for path in page.parent.iterdir()}
    assert {"tables.md", "tables.csv", "tables.tex", "figures"} <= names
    # Gathered twice, and the same page.
    write_page(gathered, tmp_path / "again")
    assert (tmp_path / "again" / "index.html").read_text(encoding="utf-8") == content


def test_everything_that_was_run_is_in_the_report(gathered: Report) -> None:
    assert gathered.classes == ("disc", "square")
    assert [row.label for row in gathered.table.rows] == [
        "medfocus",
        "linear on original",
        "linear on segmented",
        "fusion on original+segmented",
    ]
    assert gathered.table.rows[-1].focus == "original+segmented"
    assert gathered.cells[0].confusion.sum() == 2 * 16
    assert len({cell.label for cell in gathered.cells}) == len(gathered.cells)
    disc = galleries(gathered)["disc"]
    assert list(disc.tiles[0].pictures) == ["region", "candidates", "segmented"]
    assert {"ROI area", "score", "candidates"} <= set(disc.tiles[0].facts)
    assert "of 20 images" in disc.note
    assert {"Smallest regions", "Largest regions", "Lowest scores"} <= set(galleries(gathered))


@pytest.mark.parametrize(
    ("count", "shown", "folded"),
    [(5, "candidates", []), (8, "best 5 of 8 candidates", ["all 8 candidates"])],
)
def test_of_many_candidates_the_best_five_are_shown_and_the_rest_on_demand(
    count: int, shown: str, folded: list[str]
) -> None:
    masks = np.zeros((count, 32, 32), np.bool_)
    for number, mask in enumerate(masks):
        mask[4 * number : 4 * number + 3, 2:30] = True
    image = picture("scan", size=(64, 64))
    whole = Roi(np.ones((64, 64), np.bool_), fallback=True)
    region = Region(image, candidates(masks, size=(64, 64)), whole, None, image)
    open_, more = pictures(region, "scan.png", "segmented")
    assert list(open_) == ["region", shown, "segmented"]
    assert list(more) == folded


def test_maps_show_the_same_images_in_both_features(gathered: Report) -> None:
    assert [one.title for one in gathered.maps] == [
        "efficientnet-lite0-original-best-threshold",
        "efficientnet-lite0-segmented-best-threshold",
    ]
    first, second = gathered.maps
    assert len(first.thumbnails) == len(first.names) == len(first.labels) == 40
    assert first.thumbnails is second.thumbnails
    assert sorted(set(first.sides)) == ["test", "train"]
    assert all(points.shape == (40, 2) for points in first.layouts.values())


def test_the_summary_says_what_ran_and_how_far_to_trust_it(gathered: Report) -> None:
    words = " ".join(gathered.summary.sentences)
    assert "40 images of 2 classes (disc, square): 24 to train and 16 to test" in words
    assert "the data set's own split" in words
    assert "highest of 4 rows" in words
    assert "flattered" in words
    assert "No test image has the bytes or pixels of a training image" in words
    assert set(gathered.summary.figures) >= {"best accuracy", "without leaks", "images"}


def test_provenance_names_models_hashes_and_commands_that_can_be_typed(
    gathered: Report, root: Path
) -> None:
    commands = gathered.provenance["Commands"]
    assert commands["masks"] == "make masks DATASET=shapes DATA=path/to/images PROFILE=imagenet"
    assert commands["embed"] == """medfocus embed shapes --set 'views=["identity"]'"""
    assert commands["probe"] == (
        "medfocus probe shapes --set 'fractions=[50.0, 100.0]' --set seeds=2"
    )
    assert "sha256" in " ".join(gathered.provenance["Models"].values())
    assert len(gathered.provenance["Stores"]) == 3
    assert "numpy" in gathered.provenance["Packages"]
    assert "medical device" in gathered.provenance["Use"]["intended"]
    assert str(root) not in text(gathered)


def test_the_number_of_pictures_is_bounded(root: Path) -> None:
    found = report.gather(context(cache=root / CACHE), images=8)
    tiles = [tile for one in (*found.galleries, found.mistakes) for tile in one.tiles]
    assert 0 < len(tiles) <= 3 + 5 + 1
    assert all(len(tile.pictures) <= 3 for tile in tiles)
    assert len(found.duplicates.pairs) <= 1


def test_each_stage_that_is_missing_is_named(medfocus: Medfocus, tmp_path: Path) -> None:
    images = make_images(tmp_path / "few", train=3, test=1)
    Path("quick.yaml").write_text(QUICK)

    def missing() -> str:
        with pytest.raises(StoreError) as caught:
            report.run(open_context("shapes", data=images, cache=CACHE, profile="quick.yaml"))
        return str(caught.value)

    assert "Run: make masks DATASET=shapes" in missing()
    assert medfocus("masks", "shapes", "--data", images, "--profile", "quick.yaml").code == 0
    assert "Run: make embed DATASET=shapes" in missing()
    assert medfocus("embed").code == 0
    assert "Run: make probe DATASET=shapes" in missing()


def test_a_cache_without_its_images_has_a_report_without_pictures(done: Medfocus) -> None:
    done("scan")
    shutil.rmtree("images")
    found = report.gather(context())
    assert "not on this machine" in " ".join(found.summary.warnings)
    assert not any(one.tiles for one in found.galleries)
    assert not found.maps[0].thumbnails
    assert all(not tile.pictures and tile.probabilities for tile in found.mistakes.tiles)


def test_rows_that_lack_runs_say_so(done: Medfocus) -> None:
    path = FOLDER / "settings.json"
    settings = json.loads(path.read_text())
    settings["probe"]["seeds"] = 3
    path.write_text(json.dumps(settings))
    found = report.gather(context())
    assert "linear on original (4 of 6 runs)" in " ".join(found.summary.warnings)
    assert "linear on original: 4 of 6 runs have a result" in found.table.details


def test_fine_tuned_networks_have_rows_and_a_chapter(done: Medfocus) -> None:
    common = ("finetune", "--fractions", "100", "--seeds", "1", "--epochs", "2", "--what", "layer")
    search = ("--trials", "2", "--set", "search.trained=[layer]")
    assert done(*common, *search).code == 0
    assert done(*common, "--balance", "sampler").code == 0
    found = report.gather(context())
    plain = "finetune:efficientnet-lite0, trained layer, epochs 2"
    rows = {row.label: row for row in found.table.rows}
    assert {row.group for row in rows.values() if "finetune" in row.label} == {"fine-tuned"}
    assert rows[f"{plain}, balance sampler"].cells["fraction", 100.0].runs == 1
    [chapter] = found.chapters
    tables = {table.title: table for table in chapter.tables}
    compared = tables["efficientnet-lite0, fine-tuned and as it is"]
    assert "linear on original.levels" in [row[0] for row in compared.rows]
    assert any("McNemar's test" in note for note in chapter.notes)
    recalls = tables["Recall by class, %"]
    assert recalls.header == ["of", "on", "class", "recall, %"]
    assert {row[2] for row in recalls.rows} == {"disc", "square"}
    assert {f"{plain}, balance sampler", f"{plain}, 2 trials, trained layer"} <= {
        row[0] for row in recalls.rows
    }
    [trials] = [table for title, table in tables.items() if title.startswith("Trials: ")]
    assert [row[0] for row in trials.rows] == ["0", "1"]
    [shares] = tables["Importance of each hyper-parameter"].rows
    assert len(shares) == 8
    assert [one.name for one in chapter.drawings] == ["learning-efficientnet-lite0"]
    assert any(command.startswith("medfocus finetune shapes") for command in _commands(found))
    page = Path(write_page(found, Path("page"))[0]).read_text(encoding="utf-8")
    assert 'id="finetuning-title"' in page


def _commands(found: Report) -> list[str]:
    return [*found.provenance["Commands"].values()]


def test_rows_of_reproduce_join_those_of_probe(done: Medfocus) -> None:
    rows = ("--rows", "clip,linear:original+segmented", "--seeds", "1", "--workers", "1")
    assert done("reproduce", *rows).code == 0
    found = report.gather(context())
    shown = {row.label: row for row in found.table.rows}
    assert shown["linear on original+segmented"].cells
    assert shown["Swin-B, linear"].note == "needs weights"
    assert shown["zero-shot on original"].note == "needs a dual encoder"
    assert shown["fusion on original+segmented"].group
    words = " ".join(found.summary.warnings)
    assert "for want of weights" in words
    assert "more rows of reproduce were not asked for" in words
    assert found.provenance["Commands"]["reproduce"] == "make reproduce DATASET=shapes"


@pytest.fixture
def flawed(medfocus: Medfocus, tmp_path: Path) -> Medfocus:
    """A class with a hostile name, a broken file, copies in training under another label."""
    root = tmp_path / "flawed"
    for kind, name in enumerate((HOSTILE, "square")):
        for split, count, start in (("train", 6, 0), ("test", 4, 100)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(start, start + count):
                Image.fromarray(draw(kind, number)).save(folder / f'"{number}>.png')
    (root / "test" / "square" / "broken.png").write_bytes(b"\x89PNG")
    shutil.copy(root / "train" / "square" / '"0>.png', root / "test" / "square" / "copy.png")
    pixels = np.asarray(Image.open(root / "train" / "square" / '"1>.png'))
    Image.fromarray(pixels).save(root / "test" / HOSTILE / "again.bmp")
    Path("quick.yaml").write_text(QUICK)
    profile = ("--profile", "quick.yaml")
    for command in (("masks", "flawed", "--data", root, *profile), ("embed",), ("probe",)):
        answer = medfocus(*command)
        assert answer.code == 0, answer
    return medfocus


def test_flaws_of_a_data_set_are_told_and_its_names_are_not_obeyed(flawed: Medfocus) -> None:
    found = report.gather(context("flawed"))
    words = " ".join(found.summary.warnings)
    assert "2 of 10 test images are also among the training images" in words
    assert "1 file cannot be read and is left out: test/square/broken.png" in words
    assert "two labels" in words
    assert "trust this figure" in " ".join(found.summary.sentences)
    pairs = {pair.kind: pair for pair in found.duplicates.pairs}
    assert list(pairs)[:2] == ["equal files", "equal pixels"]
    assert pairs["equal files"].first.name == "test/square/copy.png"
    assert pairs["equal files"].second.name == 'train/square/"0>.png'
    assert "both square" in pairs["equal files"].detail
    assert f"test says {HOSTILE}" in pairs["equal pixels"].detail
    report.run(context("flawed"))
    page = Path("cache/flawed/report/index.html").read_text(encoding="utf-8")
    assert "<b>bold" not in page
    assert "<script>alert" not in page


def test_an_image_that_breaks_before_the_report_is_left_out_of_it(done: Medfocus) -> None:
    done("scan")
    assert done("audit").code == 0
    path = Path("images/train/disc/disc 3.png")
    stat = path.stat()
    # Of the same size and age, so that no scan looks at it again.
    path.write_bytes(path.read_bytes()[:60].ljust(stat.st_size, b"\0"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    found = report.gather(context())
    shown = [tile.name for one in found.galleries for tile in one.tiles]
    assert "train/disc/disc 3.png" not in shown
    assert "train/disc/disc 3.png" in " ".join(found.summary.warnings)
