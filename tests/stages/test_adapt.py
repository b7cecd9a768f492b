"""``medfocus adapt`` on three hospitals whose features come from a file: fast, and no model."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from medfocus_pipeline.adaptation import METHODS, named
from tests.stages.conftest import Medfocus

CALLED = {
    "north": ("NORMAL", "PNEUMONIA"),
    "south": ("healthy", "viral"),
    "west": ("clear", "bacterial"),
}
STUDY = """
title: Three hospitals
classes:
  normal: NORMAL|clear|healthy
  pneumonia: PNEUMONIA|bacterial|viral
domains:
  north: { dataset: hospitals, data: images.csv, domain: north }
  south: { dataset: hospitals, data: images.csv, domain: south }
  west: { dataset: hospitals, data: images.csv, domain: west }
"""
TRAIN, TEST = 14, 8
FAST = ("--seeds", "2", "--workers", "1")


def write_hospitals(root: Path, *, poisoned: str = "") -> Path:
    """Images of noise, features that shift from hospital to hospital, and a study of them.

    Args:
        poisoned: hospital whose training labels are permuted.
    """
    rng = np.random.default_rng(0)
    lines, features = [], []
    for place, (domain, names) in enumerate(CALLED.items()):
        for number in range(2 * (TRAIN + TEST)):
            label, side = number % 2, "train" if number < 2 * TRAIN else "test"
            path = f"{domain}/{number}.png"
            (root / domain).mkdir(parents=True, exist_ok=True)
            grey = rng.integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(grey).save(root / path)
            shown = rng.normal((2.0 * label, -1.0 * label, place, place, -place, 0))
            shown[0] *= 1 + place / 2
            features.append(shown)
            # Half of the labels change places: as many of each class as before.
            wrong = domain == poisoned and side == "train" and number // 2 % 2 == 0
            lines.append(f"{path},{names[label ^ wrong]},{side},{domain}")
    (root / "west/covid.png").write_bytes(b"")
    Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(root / "west/covid.png")
    lines.append("west/covid.png,COVID,train,west")
    features.append(np.zeros(6))
    # One picture in two collections: west tests on what north trains on.
    shutil.copy(root / "north/1.png", root / f"west/{2 * TRAIN + 1}.png")
    features[-2 * TEST] = features[1]
    (root / "images.csv").write_text("\n".join(["path,label,split,domain", *lines]) + "\n")
    np.save(root / "features.npy", np.array(features))
    (root / "features.txt").write_text("\n".join(line.split(",")[0] for line in lines) + "\n")
    (root / "mine.yaml").write_text(STUDY)
    return root


def embed(medfocus: Medfocus, root: Path, cache: str = "cache") -> None:
    answer = medfocus(
        *("embed", "hospitals", "--data", root / "images.csv", "--profile", "imagenet"),
        *("--features", root / "features.npy", "--cache", cache),
    )
    assert answer.code == 0, answer.err


def quick(*names: str) -> tuple[str, str]:
    """The option of some methods, whose networks take two steps."""

    def shortened(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        least = {"epochs": 2, "least_steps": 2}
        return {key: least.get(key, shortened(one)) for key, one in value.items()}

    configs = [named(name).model_dump(mode="json") for name in names]
    return "--set", f"methods={json.dumps([shortened(config) for config in configs])}"


@pytest.fixture
def hospitals(medfocus: Medfocus, tmp_path: Path) -> Path:
    root = write_hospitals(tmp_path / "data")
    embed(medfocus, root)
    return root


def test_the_matrix_is_printed_written_and_not_fitted_again(
    medfocus: Medfocus, hospitals: Path
) -> None:
    few = (*quick("source", "mlp", "oracle"), *FAST)
    answer = medfocus("adapt", hospitals / "mine.yaml", *few)
    assert answer.code == 0, answer.err
    # Six pairs of two methods, and the oracle of three targets, two seeds each.
    assert "adapt: 30 runs fitted" in answer.out
    assert "north → south" in answer.out
    assert "west: 1 image left out, of COVID (1)" in answer.out
    assert "north and west share 1 picture" in answer.out
    assert "1 under two classes" not in answer.out
    assert f"1 of {6 * TEST} test images show what some domain trains on" in answer.out
    rows = pq.read_table("cache/mine/results/adaptation.parquet").to_pylist()
    assert {row["n_test"] for row in rows if row["target"] == "west"} == {2 * TEST - 1}
    assert {row["n_test"] for row in rows if row["target"] == "north"} == {2 * TEST}
    assert {row["source"] for row in rows if row["method"] == "oracle"} == {
        "north",
        "south",
        "west",
    }
    assert all(0 <= row["distance"] <= 2 for row in rows if row["method"] == "source")
    report = Path("cache/mine/report")
    page = (report / "index.html").read_text()
    assert "<table>" in page
    for text in ("difference from source-only, points", "≤ -30", "≥ +30"):
        assert text in page
    assert r"\begin{tabular}" in (report / "matrix.tex").read_text()
    assert (report / "matrix.md").read_text().count("| oracle |") == 3
    assert len((report / "matrix.csv").read_text().splitlines()) == 1 + 3 * 6 * 3
    assert (report / "matrix.png").read_bytes().startswith(b"\x89PNG")
    again = medfocus("adapt", hospitals / "mine.yaml", *few)
    assert "all 30 runs are done, nothing to do" in again.out
    shared = pq.read_table("cache/mine/audit.parquet").to_pylist()
    assert [(row["first_path"], row["second_path"]) for row in shared] == [
        ("north/north/1.png", f"west/west/{2 * TRAIN + 1}.png")
    ]
    told = medfocus("cache", "ls", "--json")
    rows = [row for row in json.loads(told.out) if row["dataset"] == "mine"]
    assert [(row["stage"], row["rows"]) for row in rows] == [("adapt", 30)]
    assert medfocus("cache", "verify").code == 0
    place = Path("cache/mine/results/adaptation.parquet")
    place.write_bytes(bytes([place.read_bytes()[0] ^ 1]) + place.read_bytes()[1:])
    damaged = medfocus("cache", "verify", "mine")
    assert damaged.code == 1
    assert "Run: medfocus adapt" in " ".join((damaged.out + damaged.err).split())


def test_a_study_is_audited_alone_across_its_domains(medfocus: Medfocus, hospitals: Path) -> None:
    answer = medfocus("audit", hospitals / "mine.yaml", "--json", "--strict")
    assert answer.code == 1  # west tests on what north trains on
    assert json.loads(answer.out)["leaked_test_images"] == 1
    shared = pq.read_table("cache/mine/audit.parquet").to_pylist()
    assert [(row["first_path"], row["second_path"]) for row in shared] == [
        ("north/north/1.png", f"west/west/{2 * TRAIN + 1}.png")
    ]


def test_no_label_of_the_target_moves_a_number_but_the_oracles(
    medfocus: Medfocus, hospitals: Path, tmp_path: Path
) -> None:
    poisoned = write_hospitals(tmp_path / "poisoned", poisoned="south")
    assert (poisoned / "images.csv").read_text() != (hospitals / "images.csv").read_text()
    embed(medfocus, poisoned, "other")
    few = ("--source", "north,others", "--target", "south", *quick(*METHODS), *FAST)
    for root, cache in ((hospitals, "cache"), (poisoned, "other")):
        answer = medfocus("adapt", root / "mine.yaml", *few, "--cache", cache)
        assert answer.code == 0, answer.err
    said = {}
    for cache in ("cache", "other"):
        rows = pq.read_table(f"{cache}/mine/results/adaptation.parquet").to_pylist()
        answers = pq.read_table(f"{cache}/mine/results/predictions.parquet").to_pylist()
        method = {row["run_key"]: row["method"] for row in rows}
        own = [[row for row in answers if method[row["run_key"]] == name] for name in METHODS]
        told = [
            {key: value for key, value in row.items() if key != "seconds"}
            for row in rows
            if row["method"] != "oracle"
        ]
        said[cache] = dict(zip(METHODS, own, strict=True)) | {"results": told}
    assert said["cache"].pop("oracle") != said["other"].pop("oracle")
    assert said["cache"] == said["other"]
    assert {name for name, rows in said["cache"].items() if not rows} <= {
        name for name, entry in METHODS.items() if entry.augmented
    }


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (("  south: {", "  # south: {"), (), None),
        (
            ("north }\n  south", "north }\n  # south"),
            ("--target", "west", "--source", "west"),
            "is also the source",
        ),
        (("domain: south", "domain: north"), (), "domains north and south are the same images"),
        (("domain: south", "domain: east"), (), "'east' in the column domain.*north, south, west"),
        (
            ("|bacterial", ""),
            (),
            "west has no image of 'pneumonia', only of COVID, bacterial, clear",
        ),
        (
            ("pneumonia: PNEUMONIA|bacterial|viral", "sick: lungs"),
            (),
            "'sick' of the study mine stands for lungs",
        ),
        (
            (
                "normal: NORMAL|clear|healthy\n  pneumonia: PNEUMONIA|bacterial|viral",
                "well: healthy\n  sick: viral",
            ),
            (),
            "mine and of its domain north do not meet: it has NORMAL, PNEUMONIA",
        ),
        (("x", "x"), ("--source", "nroth"), "no domain 'nroth'. Did you mean north"),
        (("x", "x"), ("--methods", "danm"), "no method 'danm'. Did you mean dann"),
        (
            ("x", "x"),
            ("--methods", "dann+augmentation", "--augment", "medical"),
            "features of hospitals are of a file",
        ),
        (("x", "x"), ("--augment", "medicl"), "'trivial_augment' or 'medical'"),
    ],
)
def test_bad_input_is_one_sentence_with_the_fix(
    medfocus: Medfocus,
    hospitals: Path,
    change: tuple[str, str],
    arguments: tuple[str, ...],
    message: str | None,
) -> None:
    (hospitals / "mine.yaml").write_text(STUDY.replace(*change))
    answer = medfocus("adapt", hospitals / "mine.yaml", "--methods", "source", *arguments, *FAST)
    if message is None:
        assert answer.code == 0, answer.err
        return
    assert answer.code in (1, 2)
    assert answer.err.startswith("Error: ")
    assert re.search(message, " ".join(answer.err.split())), answer.err


def test_domains_of_other_encoders_are_refused_by_name(
    medfocus: Medfocus, hospitals: Path, tmp_path: Path
) -> None:
    other = write_hospitals(tmp_path / "more")
    answer = medfocus(
        *("embed", "more", "--data", other / "images.csv", "--profile", "imagenet"),
        *("--features", other / "features.npy"),
    )
    assert answer.code == 0, answer.err
    text = STUDY.replace("south: { dataset: hospitals", "south: { dataset: more")
    text = text.replace(
        "data: images.csv, domain: south", f"data: {other}/images.csv, domain: south"
    )
    (hospitals / "mine.yaml").write_text(text)
    answer = medfocus("adapt", hospitals / "mine.yaml", "--methods", "source", *FAST)
    assert answer.code == 2
    assert "The domain south is embedded with" in answer.err


def test_domains_in_other_views_are_refused_by_name(medfocus: Medfocus, tmp_path: Path) -> None:
    root = write_hospitals(tmp_path / "data")
    header, *lines = (root / "images.csv").read_text().splitlines()
    text = STUDY.replace("west:", "# west:")
    for name, views in (("north", "identity"), ("south", "identity,hflip")):
        few = [line for line in lines if re.match(rf"{name}/[2-3]?[0-5]\.png", line)]
        (root / f"{name}.csv").write_text("\n".join([header, *few]) + "\n")
        answer = medfocus(
            *("embed", name, "--data", root / f"{name}.csv", "--profile", "offline"),
            *("--encoder", "efficientnet-lite0", "--focus", "original", "--views", views),
        )
        assert answer.code == 0, answer.err
        text = text.replace(
            f"dataset: hospitals, data: images.csv, domain: {name}",
            f"dataset: {name}, data: {name}.csv",
        )
    (root / "mine.yaml").write_text(text)
    answer = medfocus("adapt", root / "mine.yaml", *quick("source"), *FAST)
    assert answer.code == 2
    said = " ".join(answer.err.split())
    assert "different views: north in identity; south in identity, hflip" in said
    assert "make adapt STUDY=mine PROFILE=offline" in said


def test_methods_of_augmented_views_get_them_or_say_what_to_type(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    root = write_hospitals(tmp_path / "data")
    text = (root / "images.csv").read_text().splitlines()
    few = [line for line in text[1:] if re.match(r"(north|south)/[2-5]?[0-5]\.png", line)]
    (root / "images.csv").write_text("\n".join([text[0], *few]) + "\n")
    (root / "mine.yaml").write_text(re.sub("  west:.*", "", STUDY))
    (root / "small.yaml").write_text(
        "embed: { encoder: { name: efficientnet-lite0 }, focus: [original], views: [identity] }"
    )
    study = ("adapt", root / "mine.yaml", "--profile", root / "small.yaml", *FAST)
    study += ("--source", "north", "--target", "south", *quick("source", "dann+augmentation"))
    without = medfocus(*study)
    assert without.code == 0, without.err
    assert "dann+augmentation is left out" in without.out
    assert "AUGMENT=trivial_augment,medical" in " ".join(without.out.split())
    answer = medfocus(*study, "--augment", "medical", "--set", "copies=2")
    assert answer.code == 0, answer.err
    assert "left out: the domains" not in answer.out
    # Source-only has its results already: augmented views are not in what it was fitted on.
    assert "adapt: 2 runs fitted" in answer.out
    [store] = Path("cache/hospitals/embeddings").glob("*augmented*")
    config = json.loads((store / "store.json").read_text())["recipe"]["config"]
    assert config["views"] == ["medical", "medical"]
    again = medfocus(*study, "--augment", "medical", "--set", "copies=2")
    assert "all 4 runs are done, nothing to do" in again.out
    # What a domain was embedded with is taken, and is still known after a study without.
    embedded = medfocus("embed", "hospitals", "--views", "identity,medical", "--set", "copies=2")
    assert "images are done, nothing to do" in embedded.out
    own = [part for part in study if part not in ("--profile", root / "small.yaml")]
    for some in (quick("source"), quick("source", "dann+augmentation")):
        last = medfocus(*own, *some)
    assert "all 4 runs are done, nothing to do" in last.out
