"""A tiny network of timm with random weights, and pictures whose class has a visual cause."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from medfocus_pipeline.config import Runtime, TimmConfig
from medfocus_pipeline.config.tuning import FinetuneConfig, TuningConfig
from medfocus_pipeline.encoders import find_weights, load_encoder
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.features import FeatureTable
from medfocus_pipeline.tuning.fitting import Material
from medfocus_pipeline.tuning.sources import Pictures
from medfocus_pipeline.tuning.tuned_runs import TunedRun, plan_tuned
from medfocus_pipeline.weights import FileHashes
from tests.evaluation.tables import make_table, side

VIT, RESNET = "test_vit.r160_in1k", "test_resnet.r160_in1k"

FAST = FinetuneConfig(epochs=2, folds=2, batch_size=4, learning_rate=1e-3)


def loader(name: str, folder: Path) -> Callable[[], Encoder]:
    """Loads a random model of that name, which is saved once."""
    path = folder / f"{name}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        torch.manual_seed(0)
        save_file(timm.create_model(name, pretrained=False).state_dict(), path)
    config = TimmConfig(model=name, checkpoint=path)
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    return lambda: load_encoder(config, weights, Runtime(device="cpu"))


def draw(label: int, number: int, *, size: int) -> NDArray[np.uint8]:
    """Noise on a ground that is dark in class 0 and bright in class 1."""
    rng = np.random.default_rng((label, number))
    grey = rng.normal(70 + 100 * label, 20, (size, size))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def table_of(*, train: int = 6, test: int = 2) -> FeatureTable:
    """Two classes, so many images of each."""
    return replace(make_table(train=train, test=test, classes=2), features=np.zeros((0, 0, 0)))


def material(
    folder: Path, *, name: str = VIT, table: FeatureTable | None = None, at_once: int | None = None
) -> Material:
    """What runs of the table share; the pictures are drawn by label."""
    table = table or table_of()
    load = loader(name, folder)
    size = load().side
    images = np.stack([draw(label, n, size=size) for n, label in enumerate(table.labels.tolist())])
    pictures = Pictures(images, table.image_ids, folder / "inputs")
    config = TimmConfig(model=name, checkpoint=folder / f"{name}.safetensors")
    return Material(table, pictures, load, config, name, folder / "tuning", at_once)


def one_run(table: FeatureTable, config: FinetuneConfig = FAST, *, seed: int = 0) -> TunedRun:
    """The run on all training images."""
    tuning = TuningConfig(run=config, fractions=(100.0,), seeds=seed + 1)
    train, test = side(table, table.train), side(table, table.test)
    runs = plan_tuned(tuning, "p" * 64, model={}, train=train, test=test)
    return runs[seed]
