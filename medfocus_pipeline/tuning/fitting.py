"""What a fine-tuned run comes to."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import EncoderConfig
from medfocus_pipeline.config.tuning import FinetuneConfig
from medfocus_pipeline.encoders.protocol import Encoder
from medfocus_pipeline.evaluation.runs import Outcome
from medfocus_pipeline.evaluation.sweep import by_id
from medfocus_pipeline.features import FeatureTable
from medfocus_pipeline.heads.linear import FittedLinear
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.tuning.course import COLUMNS, Learned, Told, learn
from medfocus_pipeline.tuning.kept import Kept, embedded, keep, layer_of
from medfocus_pipeline.tuning.members import Subset
from medfocus_pipeline.tuning.network import build
from medfocus_pipeline.tuning.search import search
from medfocus_pipeline.tuning.sources import Pictures, Source
from medfocus_pipeline.tuning.trainer import Trainer
from medfocus_pipeline.tuning.tuned_runs import TunedRun
from medfocus_pipeline.types import JSON, IntArray

CHECKPOINT = "checkpoint.pt"
"""File of a run's folder to go on from; what was trained in the end: `kept`."""

_TRIED = 4
"""Pictures that an estimate goes by."""

_DIGITS = 4
"""Of the curves that are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What all runs of one encoder share.

    Attributes:
        table: labels, split and keys, without features.
        pictures: of the table's images.
        load: the encoder with the weights that it comes with; each run trains one of its own.
        encoder, label: its configuration and readable name.
        folder: of the runs' checkpoints and weights.
        at_once: images in memory at most; None lets the batch size say so.
    """

    table: FeatureTable
    pictures: Pictures
    load: Callable[[], Encoder]
    encoder: EncoderConfig
    label: str
    folder: Path
    at_once: int | None = None


def tune(material: Material, run: TunedRun, *, told: Told = lambda _: None) -> Outcome:
    """Train on the run's subset, then read the test images.

    Raises:
        ConfigError: the network has not what is to be trained.
        DataError: nothing can be held out, or the training diverged.
    """
    started = time.perf_counter()
    folder = folder_of(material.folder, run.key)
    config, more = _searched(material, run, told)
    trainer = _trainer(material, run, config, name=run.seed)
    learned = learn(trainer, folder / CHECKPOINT, recipe={"run": run.key}, told=told)
    trainer.load(learned.tensors)
    kept = Kept(
        key=run.key, encoder=material.encoder, planned=run.head, search=run.search, run=config
    )
    keep(folder, kept, learned.tensors)
    labels = trainer.subset.labels
    own = trainer.probabilities(np.arange(len(labels)))
    chosen = described(config, learned, own, labels) | more
    answers = _read_test(material, trainer, layer_of(learned.tensors, chosen))
    return Outcome(run, answers, chosen, time.perf_counter() - started)


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds that runs take.

    Attributes:
        least: where every run and trial ends as early as it may.
        most: where none ends early, and every subset is cross-validated.
    """

    least: float
    most: float


def duration(material: Material, runs: Sequence[TunedRun]) -> Duration:
    """How long runs of one configuration take, by four pictures that are tried."""
    config = runs[0].head
    network = build(
        material.load(), config, classes=len(material.table.classes), label=material.label
    )
    pictures = material.pictures.plain(np.arange(min(_TRIED, len(material.table.labels))))
    for _ in range(2):  # the first time, libraries set themselves up
        times = [time.perf_counter()]
        inputs = network.inputs(pictures)
        times.append(time.perf_counter())
        network.logits(inputs).sum().backward()  # type: ignore[no-untyped-call]
        times.append(time.perf_counter())
    once, each = (np.diff(times) / len(pictures)).tolist()
    renditions = 1 if config.augmentation == "none" else 1 + config.renditions
    images = sum(len(run.subset) * (1 + run.search.trials) for run in runs)
    judged = config.validation == "inside"
    first, folds = (config.patience + 1, config.folds) if judged else (config.epochs, 1)
    return Duration(
        images * (once + each * min(first, config.epochs)),
        images * (once * renditions + each * config.epochs * folds),
    )


def folder_of(tuning: Path, key: str) -> Path:
    """Where a run's checkpoint and weights are."""
    return tuning / key[:16]


def _read_test(material: Material, trainer: Trainer, layer: FittedLinear) -> NDArray[np.float64]:
    """Probabilities of the test images, ``(n_test, K)``: the one reading of the test."""
    pictures = material.pictures.plain(material.table.test)
    return layer.predict_proba(embedded(trainer.network.tower, pictures))


def _searched(material: Material, run: TunedRun, told: Told) -> tuple[FinetuneConfig, JSON]:
    """The configuration that a search chose, and what it tried; the run's own without one."""
    if not run.search.trials:
        return run.head, {}
    folder = material.folder / f"search-{run.search_key[:16]}"

    def attempt(config: FinetuneConfig, number: int, judged: Told) -> Learned:
        trainer = _trainer(material, run, config, name="search")
        recipe = {"search": run.search_key, "head": config.model_dump(mode="json")}
        return learn(trainer, folder / f"trial-{number}.pt", recipe=recipe, told=judged)

    seed = (run.search_key,)
    found = search(folder, run.head, run.search, attempt, seed=seed, told=told)
    for path in folder.glob("trial-*.pt"):
        path.unlink()
    return found.config, {"search": found.as_json()}


def _trainer(
    material: Material, run: TunedRun, config: FinetuneConfig, *, name: int | str
) -> Trainer:
    """A network of its own, and the subset that it learns from.

    Args:
        name: with the subset it names the generators.
    """
    table, names = material.table, (run.subset_key, name)
    network = build(
        material.load(),
        config,
        classes=len(table.classes),
        label=material.label,
        seed=int(generator("finetune", *names).integers(2**31)),
    )
    rows = by_id(table, table.train[run.subset])
    source = Source(material.pictures, network, rows, config)
    groups = None if table.groups is None else table.groups[rows]
    subset = Subset(source, table.labels[rows], groups, len(table.classes), names)
    return Trainer(network, subset, config, at_once=material.at_once)


def described(
    config: FinetuneConfig, learned: Learned, own: NDArray[np.float64], labels: IntArray
) -> JSON:
    """What was selected on training data, how it went, and how well the subset itself is told.

    Args:
        own: probabilities of the subset's images, ``(n, K)``.
        labels: ``(n,) int64`` of them.
    """
    told = {
        name: [None if np.isnan(one) else round(one, _DIGITS) for one in learned.curves[name]]
        for name in COLUMNS
    }
    return {
        "trained": config.trained,
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "label_smoothing": config.label_smoothing,
        "balance": config.balance,
        "augmentation": config.augmentation,
        "epochs": learned.epochs,
        "held_out": learned.held_out,
        "folds": learned.folds,
        "validation_loss": None if np.isnan(learned.loss) else round(learned.loss, _DIGITS),
        "train_accuracy": float((own.argmax(axis=1) == labels).mean()),
        "curves": told,
    }
