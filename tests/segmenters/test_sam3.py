"""SAM 3 against transformers' own processor and post-processing, on a tiny random model."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Sam3Model, Sam3Processor

from medfocus_pipeline.config import MasksConfig, Runtime, Sam3Config
from medfocus_pipeline.errors import ConfigError, WeightsError
from medfocus_pipeline.segmenters import Segmenter, find_weights, load_segmenter
from medfocus_pipeline.types import Image
from medfocus_pipeline.weights import FileHashes
from tests.encoders.models import WORDS
from tests.segmenters.sam3_models import write_sam3

FRAME = 64
PHRASES = (WORDS[0], f"{WORDS[1]} {WORDS[2]}")
EVERYTHING: dict[str, Any] = {
    "min_area": 0,
    "max_area": 1,
    "duplicate_iou": 1,
    "precision": "fp32",
    "phrases": PHRASES,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sam3(tmp_path_factory.mktemp("sam3") / "tiny")


def load(folder: Path, **changes: Any) -> Segmenter:
    config = Sam3Config(model=str(folder), **(EVERYTHING | changes))
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    masks = MasksConfig(segmenter=config, max_candidates=255, frame=FRAME)
    return load_segmenter(masks, weights, Runtime(device="cpu"))


def picture(height: int, width: int) -> Image:
    rng = np.random.default_rng(height)
    image = rng.integers(0, 120, (height, width, 3), dtype=np.uint8)
    image[height // 4 : height // 2, width // 4 : width // 2] += 100
    return image


def expected(folder: Path, image: Image, *, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Masks and scores of all phrases, each asked for alone with the image."""
    model = Sam3Model.from_pretrained(folder).eval()
    processor = Sam3Processor.from_pretrained(folder)
    masks, scores = [], []
    for phrase in PHRASES:
        inputs = processor(images=image, text=phrase, return_tensors="pt")
        with torch.inference_mode():
            outputs = model(
                pixel_values=inputs["pixel_values"],
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
            )
        (found,) = processor.post_process_instance_segmentation(
            outputs, threshold=threshold, target_sizes=[(FRAME, FRAME)]
        )
        masks.append(found["masks"].numpy() > 0)
        scores.append(found["scores"].numpy())
    return np.concatenate(masks), np.concatenate(scores)


@pytest.mark.parametrize("size", [(112, 112), (50, 91), (300, 200)])
def test_masks_and_scores_are_those_of_transformers(folder: Path, size: tuple[int, int]) -> None:
    image = picture(*size)
    _, scores = expected(folder, image, threshold=0)
    middle = float(np.median(scores))
    masks, scores = expected(folder, image, threshold=middle)
    filled = masks.any(axis=(1, 2))
    masks, scores = masks[filled], scores[filled]
    found = load(folder, min_score=middle).segment([image])[0]
    assert len(found) == len(masks) > 3
    assert 0 < found.area.min() < found.area.max() <= 1
    order = np.argsort(-scores, kind="stable")
    np.testing.assert_allclose(found.score, scores[order], atol=1e-4)
    for mask, score in zip(masks, scores, strict=True):
        near = np.abs(found.score - score) < 1e-4
        assert (found.masks[near] != mask).mean(axis=(1, 2)).min() < 1e-3


def test_the_detector_of_a_sam3_with_its_tracker_is_taken(folder: Path, tmp_path: Path) -> None:
    """One repository holds both: see transformers' `Sam3Model`, which looks for the prefix."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    detector = json.loads((folder / "config.json").read_text())
    config = {"model_type": "sam3_video", "detector_config": detector}
    (tmp_path / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    whole = {f"detector_model.{name}": tensor for name, tensor in tensors.items()}
    whole["tracker_model.memory"] = torch.zeros(2)
    save_file(whole, tmp_path / "model.safetensors", {"format": "pt"})
    image = picture(60, 80)
    one, other = (load(place, min_score=0).segment([image])[0] for place in (folder, tmp_path))
    np.testing.assert_array_equal(one.masks, other.masks)
    assert len(one) > 0


def test_another_phrase_finds_other_masks(folder: Path) -> None:
    image = picture(60, 80)
    one, other = (
        load(folder, phrases=(phrase,), min_score=0).segment([image])[0] for phrase in PHRASES
    )
    assert len(one) > 0
    assert len(one) != len(other) or not np.allclose(one.score, other.score, atol=1e-4)


def test_a_batch_gives_what_each_image_gives_alone(folder: Path) -> None:
    images = [picture(64, 64), picture(40, 90), picture(1, 1)]
    tool = load(folder, min_score=0)
    for image, found in zip(images, tool.segment(images), strict=True):
        alone = tool.segment([image])[0]
        np.testing.assert_array_equal(found.masks, alone.masks)
        np.testing.assert_array_equal(found.score, alone.score)


def test_where_no_phrase_finds_anything_there_is_no_candidate(folder: Path) -> None:
    found = load(folder, min_score=1.0).segment([picture(30, 20)])[0]
    assert len(found) == 0
    assert found.masks.shape == (0, FRAME, FRAME)
    assert found.boxes.shape == (0, 4)


def test_without_phrases_it_says_where_they_come_from(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"name a data set with a card.*segmenter\.phrases"):
        load(folder, phrases=())


def test_another_model_in_the_folder_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    with pytest.raises(WeightsError, match="its model_type is 'sam', not one of sam3"):
        load(tmp_path)
