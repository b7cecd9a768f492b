"""`Project`: what a script does with a data set is what the commands do."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from medfocus_pipeline import Project
from medfocus_pipeline.errors import ConfigError, DataError, StoreError
from medfocus_pipeline.project.progress import Advance
from medfocus_pipeline.stores import index
from tests.stages.conftest import call, make_images


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Project:
    """What three commands have made, in a cache of its own."""
    shutil.copytree(finished / "cache", tmp_path / "cache")
    return Project.open("shapes", data=finished / "images", cache=tmp_path / "cache")


def test_a_script_begins_where_the_commands_ended(project: Project) -> None:
    assert project.masks.fill() is None
    assert project.embeddings().fill() == []
    assert project.probe() == 0


def test_a_store_that_is_done_is_tidied_while_another_is_computed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between two stores: the first has loose index parts, the second is gone."""
    stores = {one.store.path for one in project.embeddings().locate().embeddings if one.store}
    gone = next(path for path in stores if "segmented" in path.name)
    [kept] = [path for path in stores if "original" in path.name]
    shutil.rmtree(gone)
    assert [path.name for path in (kept / "index").iterdir()] == ["part-000000.parquet"]
    monkeypatch.setattr(index, "_FEW", 0)
    assert [one.computed for one in project.embeddings().fill()] == [40]
    for path in (kept, gone):
        assert [one.name for one in (path / "index").iterdir()] == ["segment-000000.parquet"]


def test_the_commands_go_on_where_a_script_ended(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", train=6, test=4)
    project = Project.open("mine", data=images, profile="imagenet", cache=tmp_path / "cache")
    filled = project.masks.fill()
    assert filled is not None
    assert filled.computed == len(project.dataset.files) == 20
    assert [one.computed for one in project.embeddings("original").fill()] == [20]
    answer = call("masks", "mine", "--cache", tmp_path / "cache", cwd=tmp_path)
    assert "masks: all 20 images are done, nothing to do" in answer.out
    answer = call("embed", "--cache", tmp_path / "cache", cwd=tmp_path)
    assert "embed: all 20 images are done, nothing to do" in answer.out


def test_features_are_of_all_images_with_labels_and_split(project: Project) -> None:
    one, both = project.features("segmented"), project.features("original", "segmented")
    assert project.classes == ("disc", "square")
    assert len(one.image_ids) == len(one.labels) == 40
    assert (len(one.train), len(one.test)) == (24, 16)
    assert both.features.shape[2] == 2 * one.features.shape[2]
    np.testing.assert_allclose(np.linalg.norm(one.features, axis=2), 1, atol=1e-3)


def test_results_are_tables_that_pandas_takes(project: Project) -> None:
    results = project.results().to_pandas()
    assert set(results["fraction"]) == {50, 100}
    assert results["accuracy"].between(0, 1).all()
    predictions = project.predictions()
    assert predictions.num_rows == len(results) * 16


def test_a_row_that_is_asked_for_is_fitted_once(project: Project) -> None:
    known = project.results().num_rows
    count = project.probe(["linear:original+segmented"], workers=1)
    assert count == 4
    assert project.results().num_rows == known + count
    assert project.probe(["linear:original+segmented"], workers=1) == 0


def test_an_image_is_looked_at_with_its_region(project: Project) -> None:
    image_id = next(iter(project.dataset.files))
    region = project.region(image_id)
    assert region.image.shape == (64, 64, 3)
    assert region.roi.mask.shape == (64, 64)
    assert len(project.candidates(image_id)) == len(region.candidates) > 0


def test_long_work_tells_how_far_it_is(tmp_path: Path) -> None:
    told: dict[str, int] = {}

    @contextmanager
    def progress(what: str, total: int, /) -> Iterator[Advance]:
        def advance(rows: int, total: int | None = None, /) -> None:
            told[what] = told.get(what, 0) + rows

        yield advance

    images = make_images(tmp_path / "images", train=3)
    project = Project.open(
        "mine", data=images, profile="imagenet", cache=tmp_path / "cache", progress=progress
    )
    project.masks.fill()
    assert told == {"scanning": 6, "masks with threshold": 6}


def test_without_the_images_stage_two_works_and_stage_one_is_refused(
    project: Project, tmp_path: Path
) -> None:
    away = Project.open("shapes", data=tmp_path / "gone", cache=tmp_path / "cache")
    assert away.probe(["linear:original+segmented"], workers=1) == 4
    with pytest.raises(DataError, match="is not there, and some of its images"):
        away.embeddings("overlay").fill()
    assert away.dataset.files == project.dataset.files, "no image was given up"


def test_what_is_missing_is_said_with_what_to_do(tmp_path: Path) -> None:
    images = make_images(tmp_path / "images", train=3)
    project = Project.open("mine", data=images, profile="imagenet", cache=tmp_path / "cache")
    with pytest.raises(StoreError, match=r"Run: make masks DATASET=mine, or project\.masks\.fill"):
        project.candidates("any")
    with pytest.raises(StoreError, match="have no masks"):
        project.embeddings().fill()
    with pytest.raises(ConfigError, match="expected one of original, segmented"):
        project.features("nonsense")
