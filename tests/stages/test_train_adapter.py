"""``medfocus train-adapter``: small, from the command line, on to the next command."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.segmenters.sam_models import write_sam
from tests.stages.conftest import Medfocus

SMALL = ("--model", "sam", "--steps", "2", "--device", "cpu", "--set", "reduction=4")


def annotated_images(root: Path, *, count: int = 8) -> Path:
    """Two classes of blobs with masks, the first of each class without one."""
    for kind in ("cyst", "tumour"):
        (root / kind).mkdir(parents=True)
        for number in range(count):
            rng = np.random.default_rng((number, kind == "cyst"))
            picture = rng.integers(0, 90, (40, 50), dtype=np.uint8)
            mask = np.zeros_like(picture)
            x, y = rng.integers(5, 20, 2)
            mask[y : y + 15, x : x + 20] = 200 * (number > 0)
            Image.fromarray(picture + mask // 2).save(root / kind / f"{number}.png")
            Image.fromarray(mask).save(root / kind / f"{number}_mask.png")
    card = {
        "title": "Mine",
        "modality": "ultrasound",
        "classes": [{"name": name, "prompt": f"a {name}"} for name in ("cyst", "tumour")],
        "annotation": "{stem}_mask.png",
    }
    (root / "card.yaml").write_text(json.dumps(card))
    return root


def test_an_adapter_is_trained_and_the_line_that_it_ends_with_works(
    medfocus: Medfocus, tmp_path: Path
) -> None:
    annotated_images(tmp_path / "images")
    write_sam(tmp_path / "sam")
    answer = medfocus("train-adapter", "mine", "--data", "images", *SMALL)
    assert answer.code == 0, answer
    # Of each class 8 images, 2 of which (0.3 * 8) test; the black masks count for nothing.
    assert "held-out training images" in answer.out
    assert "no test image was read" in answer.out
    folder = Path("cache/training/sam-adapter-mine")
    with (folder / "log.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2"]
    (line,) = (line for line in answer.out.splitlines() if line.startswith("use: "))
    words = line.removeprefix("use: ").split()
    adapter = folder / "sam_adapter.safetensors"
    assert words[1:] == [
        *("masks", "mine", "--segmenter", "sam_adapter"),
        *("--set", f"segmenter.adapter={adapter}", "--set", "segmenter.model=sam"),
    ]
    masks = medfocus(*words[1:], "--device", "cpu", "--set", "frame=64")
    assert masks.code == 0, masks
    assert "masks with sam-adapter: 16 images" in masks.out
    assert "mean IoU of the ROI with the annotations of 14 images" in masks.out


def test_no_test_image_is_learned_from(
    medfocus: Medfocus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medfocus_pipeline.training import sam_adapter

    images = annotated_images(tmp_path / "images")
    for kind in ("cyst", "tumour"):
        for split, numbers in (("train", range(5)), ("test", range(5, 8))):
            (images / split / kind).mkdir(parents=True)
            for number in numbers:
                for name in (f"{number}.png", f"{number}_mask.png"):
                    (images / kind / name).rename(images / split / kind / name)
        (images / kind).rmdir()
    twin = images / "train" / "cyst" / "4.png"  # the same bytes on both sides
    (images / "test" / "cyst" / "twin.png").write_bytes(twin.read_bytes())
    card = json.loads((images / "card.yaml").read_text())
    card["splits"] = {"train": ["train"], "test": ["test"]}
    (images / "card.yaml").write_text(json.dumps(card))
    write_sam(tmp_path / "sam")
    seen: list[str] = []
    real = sam_adapter.train

    def train(config, examples, weights, folder, *, advance):
        seen.extend(f"{one.image.parent.name}/{one.image.name}" for one in examples)
        return real(config, examples, weights, folder, advance=advance)

    monkeypatch.setattr(sam_adapter, "train", train)
    answer = medfocus("train-adapter", "mine", "--data", "images", *SMALL)
    assert answer.code == 0, answer
    assert sorted(seen) == [
        *(f"cyst/{number}.png" for number in (1, 2, 3)),
        *(f"tumour/{number}.png" for number in (1, 2, 3, 4)),
    ]


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        (("--data", "bare"), "None of the 4 training images of mine", 1),
        (("--data", "images", "--model", "./nowhere"), "has no config.json", 1),
        (("--data", "images", "--model", "sam", "--set", "foo=1"), "foo: Extra inputs", 2),
        (("--data", "images", "--model", "facebook/sam-vit-base"), "cannot be fetched", 1),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    medfocus: Medfocus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    told: str,
    code: int,
) -> None:
    from huggingface_hub import HfApi, constants

    def unreachable(*args: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(HfApi, "model_info", unreachable)
    annotated_images(tmp_path / "images", count=3)
    bare = annotated_images(tmp_path / "bare", count=3)
    (bare / "card.yaml").unlink()
    for mask in bare.rglob("*_mask.png"):
        mask.unlink()
    answer = medfocus("train-adapter", "mine", *arguments)
    assert answer.code == code
    assert told in " ".join(answer.err.split())
    assert "Traceback" not in answer.err


def test_an_adapter_must_be_named_to_be_used(medfocus: Medfocus, tmp_path: Path) -> None:
    annotated_images(tmp_path / "images", count=3)
    masks = ("masks", "mine", "--data", "images", "--segmenter", "sam_adapter")
    answer = medfocus(*masks)
    assert answer.code == 2
    assert "adapter: Field required" in answer.err
    answer = medfocus(*masks, "--set", "segmenter.adapter=gone.safetensors")
    assert answer.code == 1
    assert "There is no adapter gone.safetensors" in answer.err


def test_sams_are_listed_and_known_by_their_ids(medfocus: Medfocus) -> None:
    from medfocus_pipeline.commands.model_names import config_of
    from medfocus_pipeline.config import MedSamConfig, SamConfig

    answer = medfocus("models", "list")
    assert answer.code == 0, answer
    for name in ("facebook/sam-vit-base", "facebook/sam-vit-huge", "wanglab/medsam-vit-base"):
        assert name in answer.out
    assert config_of("facebook/sam-vit-large") == SamConfig(model="facebook/sam-vit-large")
    assert config_of("wanglab/medsam-vit-base") == MedSamConfig()
