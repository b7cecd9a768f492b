"""``medfocus train-offline`` and ``make bench``'s regions: small, from the command line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.stages.conftest import Medfocus

pytest.importorskip("sam2", reason="the optional package sam2 is not installed")

TRAIN = ("train-offline", "sam2-lite", "--phantoms", "4", "--steps", "2", "--workers", "1")
SMALL = (*TRAIN, "--set", "batch_size=1", "--set", "log_every=1")


def test_a_training_ends_with_weights_that_the_next_commands_take(
    medfocus: Medfocus, bench: Medfocus, tmp_path: Path
) -> None:
    answer = medfocus(*SMALL)
    assert answer.code == 0, answer
    folder = Path("cache/training/sam2-lite")
    weights = folder / "sam2_lite.safetensors"
    assert f"weights: {weights}, 4.4 MB" in answer.out
    assert f"masks --profile offline --set segmenter.checkpoint={weights}\n" in answer.out
    with (folder / "log.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]
    recipe = json.loads((folder / "recipe.json").read_text())
    assert (recipe["steps"], recipe["batch_size"], recipe["seed"]) == (2, 1, 0)

    again = medfocus(*SMALL)
    assert again.code == 0
    other = medfocus(*SMALL, "--set", "learning_rate=1e-3")
    assert other.code == 2
    assert "other settings (learning_rate changed); name another folder with --work" in other.err
    assert json.loads((folder / "recipe.json").read_text()) == recipe

    images = annotated_images(tmp_path / "images")
    some = ("regions", "--count", "1", "--grid", "1", "--checkpoint", weights)
    measured = bench(*some, "--dataset", "mine", "--data", images)
    assert measured.code == 0, measured
    rows = {line.split("  ")[0].strip(): line.split() for line in measured.out.splitlines()}
    kinds = ("brain", "breast", "covid", "lungs", "pictures")
    for name in (*(f"phantoms, {kind}" for kind in kinds), "mine, annotations"):
        number, *figures = rows[name][2:]
        assert number == "1"
        assert len(figures) == 5
        assert all(0 <= float(figure) <= 1 for figure in figures)
    assert "best of the grid" in measured.out


def annotated_images(root: Path) -> Path:
    """Two images, one with a mask; the other's is black."""
    rng = np.random.default_rng(0)
    (root / "cyst").mkdir(parents=True)
    for name, inside in (("one", 200), ("none", 0)):
        picture = rng.integers(0, 90, (40, 50), dtype=np.uint8)
        mask = np.zeros_like(picture)
        mask[10:25, 15:35] = inside
        Image.fromarray(picture + mask // 2).save(root / "cyst" / f"{name}.png")
        Image.fromarray(mask).save(root / "cyst" / f"{name}_mask.png")
    card = {
        "title": "Mine",
        "modality": "ultrasound",
        "source": "a test",
        "licence": "none",
        "classes": [{"name": "cyst", "prompt": "a cyst"}],
        "annotation": "{stem}_mask.png",
    }
    (root / "card.yaml").write_text(json.dumps(card))
    return root


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        (("train-offline", "sam9"), "choose one of: sam2-lite, lite-clip", 2),
        ((*SMALL, "--set", "foo=1"), "foo: Extra inputs are not permitted", 2),
        ((*SMALL, "--work", "file/below"), "name another folder with --work", 1),
        (("regions", "--data", "images"), "--dataset breast", 2),
        (("regions", "--dataset", "bare", "--data", "images"), "has no annotations", 1),
        (("regions", "--size", "huge"), "size: Input should be", 2),
        (("regions", "--checkpoint", "gone.pt"), "no such file: gone.pt", 1),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    medfocus: Medfocus, bench: Medfocus, arguments: tuple[str, ...], told: str, code: int
) -> None:
    Path("file").touch()
    Path("images/cyst").mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save("images/cyst/one.png")
    program = bench if arguments[0] == "regions" else medfocus
    answer = program(*arguments)
    assert answer.code == code
    assert told in " ".join(answer.err.split())
    assert "Traceback" not in answer.err


def test_bench_without_a_command_still_measures_the_stages(
    bench: Medfocus, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, bool]] = []
    monkeypatch.setattr(
        "tests.bench.run",
        lambda output, *, quick: asked.append((output, quick)),
    )
    assert bench("--quick", "--output", "figures.json").code == 0
    assert asked == [(Path("figures.json"), True)]
