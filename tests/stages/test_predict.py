"""Export, predict and explain with the models that come along, on phantoms."""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from medfocus_pipeline.classifier import Classifier
from medfocus_pipeline.datasets.phantoms.phantom import draw
from medfocus_pipeline.datasets.readers import read_image
from medfocus_pipeline.evaluation import results
from medfocus_pipeline.evaluation.scores import read_scored
from medfocus_pipeline.sealed_tables import write_table
from tests.stages.conftest import Medfocus, call

ROWS = (
    "fusion:segmented",
    "medfocus",
    "zeroshot:original",
    "cocoop:original",
)
TRAIN, TEST = 20, 8


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with phantoms, their results, and the classifiers of all rows in `packs`."""
    folder = tmp_path_factory.mktemp("exported")
    run = partial(call, cwd=folder)
    offline = ("phantom-brain", "--data", "phantoms", "--profile", "offline")
    rows = [part for row in ROWS for part in ("--row", row)]
    answers = [
        run("phantom", "brain", "--train", str(TRAIN), "--test", str(TEST), "--data", "phantoms"),
        run("masks", *offline),
        run("embed", "--views", "identity,hflip"),
        run("probe", "--fractions", "100", "--seeds", "1", "--workers", "1", *rows),
    ]
    assert [answer.code for answer in answers] == [0] * 4, answers
    for row in ROWS:
        head, _, focus = row.partition(":")
        of = ("--focus", focus) if focus else ()
        answer = run("export", "--head", head, *of, "--out", f"packs/{head}")
        assert answer.code == 0, answer
    return folder


@pytest.fixture
def medfocus(finished: Path, tmp_path: Path) -> Medfocus:
    """The command line in a folder that has the packs and the phantoms, and no cache."""
    for name in ("packs", "phantoms"):
        shutil.copytree(finished / name, tmp_path / name)
    return partial(call, cwd=tmp_path)


def stored(folder: Path, run: str) -> dict[str, Any]:
    """Path -> probabilities, as the pipeline predicted them."""
    table = pd.read_parquet(folder / "cache/phantom-brain/results/predictions.parquet")
    mine = table[table["run_key"] == run]
    return dict(zip(mine["path"], mine["probabilities"], strict=True))


def images(folder: Path) -> list[Path]:
    """The test phantoms, without their masks."""
    every = sorted((folder / "phantoms/Testing").rglob("*.png"))
    return [path for path in every if not path.stem.endswith("_mask")]


@pytest.mark.parametrize("head", [row.partition(":")[0] for row in ROWS])
def test_same_pixels_same_answer_as_the_pipeline(
    medfocus: Medfocus, finished: Path, tmp_path: Path, head: str
) -> None:
    paths = images(tmp_path)
    answer = medfocus("predict", *paths, "--from", f"packs/{head}", "--json")
    assert answer.code == 0, answer
    said = json.loads(answer.out)
    expected = stored(finished, said["classifier"]["run"])
    assert len(said["images"]) == len(expected) == TEST
    for one in said["images"]:
        name = Path(one["path"]).relative_to(tmp_path / "phantoms").as_posix()
        found = [one["probabilities"][label] for label in said["classifier"]["classes"]]
        np.testing.assert_allclose(found, expected[name], atol=1e-5)
        assert one["predicted"] == said["classifier"]["classes"][int(np.argmax(found))]
        x0, y0, x1, y1 = one["roi"]["box"]
        assert 0 <= x0 < x1 <= 224
        assert 0 <= y0 < y1 <= 224


def test_the_python_interface_says_what_the_command_says(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    path = images(tmp_path)[3]
    said = json.loads(medfocus("predict", path, "--from", "packs/fusion", "--json").out)
    [one] = said["images"]
    [answer] = Classifier.load(tmp_path / "packs/fusion").predict([read_image(path)])
    assert list(one["probabilities"].values()) == answer.probabilities.tolist()
    assert tuple(one["roi"]["box"]) == answer.box
    assert (one["distance"], one["unfamiliar"]) == (answer.distance, answer.unfamiliar)


def test_phantoms_of_the_same_kind_are_familiar_and_pictures_are_not(finished: Path) -> None:
    classifier = Classifier.load(finished / "packs/fusion")
    same = classifier.predict([read_image(path) for path in images(finished)])
    others = classifier.predict([draw("pictures", 0, index).image for index in range(8)])
    assert sum(answer.unfamiliar for answer in same) <= 2
    assert sum(answer.unfamiliar for answer in others) >= 7


def test_the_heat_falls_on_the_lesion(finished: Path) -> None:
    """Pointing game (Zhang et al. 2018): the hottest pixel lies in the lesion or does not."""
    classifier = Classifier.load(finished / "packs/zeroshot")
    phantoms = [draw("brain", 3, index) for index in range(24)]
    phantoms = [one for one in phantoms if one.lesion.any()]
    explained = classifier.explain([one.image for one in phantoms])
    hits = [
        one.lesion[np.unravel_index(found.heat.argmax(), found.heat.shape)]
        for one, found in zip(phantoms, explained, strict=True)
    ]
    area = np.mean([one.lesion.mean() for one in phantoms])
    assert area < 0.06
    assert np.mean(hits) > 4 * area
    shares = [
        found.heat[one.lesion].sum() / found.heat.sum()
        for one, found in zip(phantoms, explained, strict=True)
    ]
    assert np.mean(shares) > 3 * area


def test_the_model_card_has_the_figures_of_the_results(finished: Path) -> None:
    card = (finished / "packs/fusion/README.md").read_text()
    results = read_scored(finished / "cache/phantom-brain/results").to_pandas()
    [row] = results[results["head"] == "fusion"].to_dict("records")
    assert f"| accuracy | {row['accuracy']:.3f} |" in card
    assert f"{row['accuracy_clean']:.3f}" in card
    assert "Not a medical device" in card
    assert "| glioma | 2 |" in card


def test_a_pack_has_no_pickle_and_no_image(finished: Path) -> None:
    for folder in (finished / "packs").iterdir():
        names = {path.name for path in folder.iterdir()}
        assert names == {"config.json", "model.safetensors", "README.md"}


def test_what_cannot_be_read_is_reported_and_the_rest_is_answered(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    paths = [images(tmp_path)[0], "broken.png", "nowhere.png"]
    answer = medfocus("predict", *paths, "--from", "packs/zeroshot")
    assert answer.code == 0
    assert "2 files could not be read" in answer.out
    assert "'broken.png' is " in answer.out
    assert "'nowhere.png' cannot be read: No such file" in answer.out
    assert "Not a medical device" in answer.out

    assert medfocus("predict", *paths, "--from", "packs/zeroshot", "--strict").code == 1
    none = medfocus("predict", *paths[1:], "--from", "packs/zeroshot", "--json")
    assert none.code == 1
    said = json.loads(none.out)
    assert said["images"] == []
    assert [one["path"] for one in said["problems"]] == ["broken.png", "nowhere.png"]


def test_a_folder_stands_for_its_images_and_overlays_have_names_of_their_own(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    (tmp_path / "mine/a").mkdir(parents=True)
    (tmp_path / "mine/b").mkdir()
    (tmp_path / "more").mkdir()
    for name in ("mine/a/1.png", "mine/b/1.png", "1.png", "more/1.dcm"):
        shutil.copy(images(tmp_path)[0], tmp_path / name)
    (tmp_path / "mine/notes.txt").write_text("no image")
    arguments = (
        "predict",
        "mine",
        "1.png",
        "mine/a/1.png",
        "more/1.dcm",
        "--from",
        "packs/zeroshot",
        "--json",
    )
    said = json.loads(medfocus(*arguments, "--overlay", "out").out)
    names = [Path(one["overlay"]).name for one in said["images"]]
    assert names == ["a_1.png", "b_1.png", "1.png", "1-2.png"]
    for name in names:
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.size[0] == 932


def test_which_picture_of_a_file_was_seen_is_said(medfocus: Medfocus, tmp_path: Path) -> None:
    one = Image.open(images(tmp_path)[0])
    one.save(tmp_path / "loop.tif", save_all=True, append_images=[one] * 2)
    arguments = ("predict", "loop.tif", images(tmp_path)[0], "--from", "packs/zeroshot")
    assert "page 1/3 alone was seen" in " ".join(medfocus(*arguments).out.split())
    said = json.loads(medfocus(*arguments, "--json").out)
    assert [entry["seen"] for entry in said["images"]] == ["page 1/3", None]


def test_a_folder_without_an_image_is_refused(medfocus: Medfocus, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answer = medfocus("predict", "empty", "--from", "packs/zeroshot")
    assert answer.code == 2
    assert "empty has no image" in answer.err


def test_explain_draws_every_image(medfocus: Medfocus, tmp_path: Path) -> None:
    paths = images(tmp_path)[:2]
    arguments = ("explain", *paths, "--from", "packs/medfocus", "--out", "why")
    answer = medfocus(*arguments)
    assert answer.code == 0, answer
    assert "pictures: why" in answer.out
    assert {path.name for path in (tmp_path / "why").glob("*.png")} == {one.name for one in paths}
    wrong = medfocus(*arguments, "--method", "magic")
    assert "no method 'magic'; choose tokens or occlusion" in wrong.err


def test_export_says_which_rows_there_are(finished: Path) -> None:
    run = partial(call, cwd=finished)
    other = run("export", "--head", "mlp")
    assert "has no result of mlp with 100 % and seed 0" in other.err
    assert "--head fusion --focus segmented" in other.err
    assert "--head zeroshot --focus original" in other.err
    fewer = run("export", "--head", "fusion", "--fraction", "5")
    assert "no result with 5 % and seed 0. Known are 100 %" in fewer.err
    both = run("export", "--fraction", "5", "--shots", "1")
    assert "exclude each other" in both.err


def test_a_run_that_does_not_repeat_is_not_exported(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    path = tmp_path / "copy/cache/phantom-brain/results/predictions.parquet"
    table = results.read(path.parent, "predictions")
    wrong = [[1.0, 0.0, 0.0, 0.0]] * len(table)
    place = table.schema.get_field_index("probabilities")
    column = pa.array(wrong, table.schema.field(place).type)
    table = table.set_column(place, table.schema.field(place), column)
    write_table(path, table, owner="predictions")
    answer = call("export", "--head", "zeroshot", cwd=tmp_path / "copy")
    assert answer.code == 1
    assert "does not give the stored predictions again" in answer.err
    assert not (tmp_path / "copy/cache/phantom-brain/models").exists()
