"""The offline profile from drawn images to the paper's table, with the models that come along."""

import json
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from medfocus_pipeline.evaluation.scores import read_scored
from medfocus_pipeline.profiles import load_profile
from tests.stages.conftest import Medfocus, call

OFFLINE = ("phantom-brain", "--data", "phantoms", "--profile", "offline")
ROWS = "clip,coop,medfocusclip,zeroshot,medfocus,swin,sam_adapter"
REPRODUCE = ("reproduce", *OFFLINE, "--rows", ROWS, "--seeds", "2", "--workers", "1")
LIMIT = 120.0
"""Seconds for all of the pipeline on 40 phantoms."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder where 40 phantoms were drawn, segmented, embedded and probed, and what it said."""
    folder = tmp_path_factory.mktemp("offline")
    run = partial(call, cwd=folder)
    started = time.process_time()
    answers = [
        run("phantom", "brain", "--train", "24", "--test", "16", "--data", "phantoms"),
        run("masks", *OFFLINE),
        run("embed", "--views", "identity"),
        run(
            *("probe", "--fractions", "100", "--seeds", "2", "--workers", "1"),
            *("--row", "linear:original", "--row", "fusion:segmented", "--row", "zeroshot:overlay"),
        ),
    ]
    assert [answer.code for answer in answers] == [0, 0, 0, 0], answers
    assert time.process_time() - started < LIMIT
    return folder, answers[-1].out


@pytest.fixture
def medfocus(done: tuple[Path, str], tmp_path: Path) -> Medfocus:
    """The command line in a copy of that folder."""
    shutil.copytree(done[0], tmp_path, dirs_exist_ok=True)
    return partial(call, cwd=tmp_path)


def test_the_sam_that_comes_along_is_a_line_of_the_table(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    answers = [
        medfocus("embed", "--encoder", "sam", "--views", "identity", "--focus", "original"),
        medfocus(
            *("probe", "--fractions", "100", "--seeds", "1", "--workers", "1"),
            *("--row", "linear:original"),
        ),
    ]
    assert [answer.code for answer in answers] == [0, 0], answers
    results = pd.read_parquet(tmp_path / "cache/phantom-brain/results/results.parquet")
    assert "sam2-lite" in set(results["encoder"])


def test_40_phantoms_go_through_the_whole_pipeline_with_three_classes_of_head(
    done: tuple[Path, str],
) -> None:
    folder, table = done
    for row in ("linear on original", "fusion on segmented", "zeroshot on overlay"):
        assert row in table
    results = read_scored(folder / "cache/phantom-brain/results").to_pandas()
    assert set(results["head"]) == {"linear", "fusion", "zeroshot"}
    assert results.groupby("head")["accuracy"].mean().min() > 0.4  # of four classes


def test_the_split_and_the_subsets_are_published(done: tuple[Path, str]) -> None:
    splits = done[0] / "cache/phantom-brain/splits"
    split = json.loads((splits / "split.json").read_text())
    assert (len(split["train"]), len(split["test"])) == (24, 16)
    whole = json.loads((splits / "fraction-100.json").read_text())
    assert whole == {"0": sorted(split["train"]), "1": sorted(split["train"])}
    results = done[0] / "cache/phantom-brain/results"
    stored = pd.read_parquet(results / "subsets.parquet")["image_ids"]
    assert {tuple(sorted(ids)) for ids in stored} == {tuple(whole["0"])}


def test_reproduce_fills_the_table_and_says_what_a_row_lacks(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    first = medfocus(*REPRODUCE)
    assert first.code == 0, first
    for row in ("linear on original", "CoOp", "fusion on segmented (MedFocusCLIP)"):
        assert row in first.out
    assert "medfocus models pull timm/swin_base_patch4_window7_224" in first.out
    assert "medfocus train-adapter" in first.out
    folder = tmp_path / "cache/phantom-brain/results"
    table = pd.read_csv(folder / "table.csv")
    assert set(table.loc[table["row"] == "CoOp", "runs"]) == {2}
    assert table.loc[table["row"] == "Swin-B, linear", "mean"].isna().all()
    cell = json.loads((folder / "diagnostics.json").read_text())["CoOp"]["100 %"]
    assert np.sum(cell["confusion"]) == 2 * 16
    assert set(cell["recall"]) == {"glioma", "meningioma", "notumor", "pituitary"}
    written = [(folder / f"table.{kind}").read_bytes() for kind in ("md", "csv", "tex")]

    second = medfocus(*REPRODUCE)
    assert "nothing to do" in second.out
    assert "fitting" not in second.err
    again = [(folder / f"table.{kind}").read_bytes() for kind in ("md", "csv", "tex")]
    assert again == written


def test_the_next_command_starts_from_the_settings_of_reproduce(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    for name in ("last.json", "phantom-brain/settings.json"):
        (tmp_path / "cache" / name).unlink()
    answer = medfocus("reproduce", *OFFLINE, "--rows", "zeroshot", "--seeds", "1")
    assert answer.code == 0, answer
    answer = medfocus("export", "--head", "zeroshot", "--focus", "original", "--out", "pack")
    assert answer.code == 0, answer


def test_equal_tables_whatever_the_batch_size_and_the_number_of_workers(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    short = load_profile("offline").model_dump(mode="json")
    short["probe"]["fractions"] = [50, 100]
    short["embed"]["views"] = ["identity"]
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(short))
    rows = ("--rows", "clip,medfocusclip,tip_adapter_f,lp_plus_plus,mlp", "--seeds", "3")
    tables = []
    for cache, workers, batch in (("one", "1", "8"), ("two", "2", "5")):
        shutil.copytree(tmp_path / "cache", tmp_path / cache)
        shutil.rmtree(tmp_path / cache / "phantom-brain/embeddings")
        options = ("--cache", cache, "--workers", workers, "--batch-size", batch)
        answer = medfocus("reproduce", *OFFLINE[:3], "--profile", "short.yaml", *rows, *options)
        assert answer.code == 0, answer
        tables.append((tmp_path / cache / "phantom-brain/results/table.csv").read_text())
    assert tables[0] == tables[1]


def test_test_labels_change_no_choice(medfocus: Medfocus, tmp_path: Path) -> None:
    """No selection reads the test split."""
    rows = ("linear:original", "fusion:segmented", "tip_adapter:original", "lp_plus_plus:original")
    options = [part for row in rows for part in ("--row", row)]
    probe = ("probe", "--fractions", "50,100", "--seeds", "1", "--workers", "1", *options)
    results = tmp_path / "cache/phantom-brain/results/results.parquet"
    assert medfocus(*probe).code == 0
    chosen = pd.read_parquet(results)[["head", "fraction", "chosen"]]
    testing = tmp_path / "phantoms/Testing"
    classes = sorted(path.name for path in testing.iterdir() if path.is_dir())
    images = sorted(testing.glob("*/*.png"))
    order = np.random.default_rng(0).permutation(len(images))
    for number, image in enumerate(images):
        label = classes[order[number] % len(classes)]
        image.rename(testing / label / f"moved {image.name}")
    assert medfocus(*probe).code == 0
    again = pd.read_parquet(results)[["head", "fraction", "chosen"]]
    merged = set(map(tuple, chosen.values)), set(map(tuple, again.values))
    assert merged[0] == merged[1]


def test_the_lambda_sweep_shows_a_curve_without_a_test_image(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    sweep = ("probe", "--lambda-sweep", "--fractions", "100", "--row", "fusion:segmented")
    answer = medfocus(*sweep)
    assert answer.code == 0, answer
    assert "fusion on segmented" in answer.out
    curve = pd.read_csv(tmp_path / "cache/phantom-brain/results/lambda.csv")
    assert curve["lambda"].tolist() == [step / 10 for step in range(11)]
    assert curve["accuracy"].between(0, 1).all()
    refused = medfocus(*sweep[:4], "--row", "linear:segmented")
    assert "add one, --row fusion:segmented" in refused.err
