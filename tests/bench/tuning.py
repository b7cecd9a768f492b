"""Fine-tuning against its bare model: both in one process, in turn, several times.

The bare model makes the passes that the run needs and nothing else: forward and backward over the
same batches in memory, forward over what chooses the epoch, over the images whose accuracy is told,
and over the test images.
"""

import shutil
import statistics
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np

from medfocus_pipeline.config import EfficientNetLiteConfig, Runtime
from medfocus_pipeline.config.tuning import FinetuneConfig, Trained
from medfocus_pipeline.encoders import find_weights, load_encoder
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.tuning.batches import epoch_batches
from medfocus_pipeline.tuning.fitting import Material, tune
from medfocus_pipeline.tuning.members import Subset
from medfocus_pipeline.tuning.network import Network, build
from medfocus_pipeline.tuning.sources import Pictures, Source
from medfocus_pipeline.tuning.trainer import Trainer
from medfocus_pipeline.tuning.tuned_runs import TunedRun
from medfocus_pipeline.tuning.validation import choosing_parts
from medfocus_pipeline.types import JSON, IntArray
from medfocus_pipeline.weights import FileHashes
from tests.bench.stage_one import seconds_of
from tests.tuning.materials import draw, one_run, table_of

_CLASSES = 2


def measure(folder: Path, *, images: int, epochs: int, repeats: int) -> JSON:
    """EfficientNet-Lite0, by what is trained of it.

    Args:
        images: of each class to learn from, a quarter as many to test.
        epochs: all of them are trained.
    """
    given = _material(folder, images)
    return {trained: _compared(given, trained, epochs, repeats) for trained in _TRAINED}


_TRAINED: tuple[Trained, ...] = ("all", "last_block")


def _compared(given: Material, trained: Trained, epochs: int, repeats: int) -> JSON:
    config = FinetuneConfig(trained=trained, epochs=epochs, patience=epochs)
    run = one_run(given.table, config)
    network = build(given.load(), config, classes=_CLASSES, label=given.label)
    rows = given.table.train[run.subset]
    source = Source(given.pictures, network, rows, config)
    subset = Subset(source, given.table.labels[rows], None, _CLASSES, ("bench",))
    trainer = Trainer(network, subset, config, at_once=None)
    [part] = choosing_parts(subset.labels, None, config, generator("bench"))
    member = trainer.begin(part.train)
    bare = _Bare(network, source, subset.labels, part.train)

    def whole() -> None:
        for _ in range(epochs):
            bare.train()
            bare.look(part.held_out)
        bare.look(np.arange(len(rows)))
        bare.look_at(given.table.test)

    folders = (given.folder / f"{trained}-{number}" for number in count())
    sides: tuple[Callable[[], object], ...] = (
        bare.train,
        lambda: trainer.epoch(member, 0),
        whole,
        lambda: _run(replace(given, folder=next(folders)), run),
    )
    for side in sides[:2]:
        side()  # warm: thread pools, memory, what is computed once
    pairs = [[seconds_of(side) for side in sides] for _ in range(repeats)]
    return {
        "images": len(rows),
        "epochs": epochs,
        "bare_epoch_seconds": statistics.median(one[0] for one in pairs),
        "epoch_over_bare": statistics.median(one[1] / one[0] for one in pairs),
        "bare_run_seconds": statistics.median(one[2] for one in pairs),
        "run_seconds": statistics.median(one[3] for one in pairs),
        "run_over_bare": statistics.median(one[3] / one[2] for one in pairs),
        "run_over_training_passes": statistics.median(one[3] / (epochs * one[0]) for one in pairs),
    }


def _run(given: Material, run: TunedRun) -> None:
    tune(given, run)
    shutil.rmtree(given.folder)


class _Bare:
    """The passes of a run, on inputs in memory."""

    def __init__(self, network: Network, source: Source, labels: IntArray, train: IntArray) -> None:
        self._network, self._source, self._labels, self._train = network, source, labels, train

    def train(self) -> None:
        """Forward and backward over the batches of an epoch."""
        import torch

        rng = generator("bench")
        own = self._labels[self._train]
        for batch in epoch_batches(own, balance="none", batch_size=16, rng=rng):
            rows = self._train[batch]
            logits = self._network.logits(self._source.plain(rows))
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(self._labels[rows]))
            loss.backward()  # type: ignore[no-untyped-call]
            for one in self._network.parameters().values():
                one.grad = None

    def look(self, rows: IntArray) -> None:
        """Forward over images of the subset."""
        import torch

        with torch.no_grad():
            for start in range(0, len(rows), 16):
                self._network.logits(self._source.plain(rows[start : start + 16]))

    def look_at(self, rows: IntArray) -> None:
        """Forward over others, whole."""
        import torch

        pictures = self._source.pictures.plain(rows)
        with torch.no_grad():
            for start in range(0, len(rows), 16):
                self._network.tower.embed(torch.from_numpy(pictures[start : start + 16]))


def _material(folder: Path, images: int) -> Material:
    table = table_of(train=images, test=max(1, images // 4))
    load = _loader()
    size = load().side
    pictures = np.stack(
        [draw(label, n, size=size) for n, label in enumerate(table.labels.tolist())]
    )
    kept = Pictures(pictures, table.image_ids, folder / "inputs")
    config = EfficientNetLiteConfig()
    return Material(table, kept, load, config, config.name, folder / "tuning")


def _loader() -> Callable[[], Encoder]:
    config = EfficientNetLiteConfig()
    weights = find_weights(config, FileHashes(), download=False)
    if weights is None:
        raise ValueError("the weights are in a package that MedFocus depends on")
    return lambda: load_encoder(config, weights, Runtime(device="cpu"))
