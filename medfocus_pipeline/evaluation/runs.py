"""Runs: a head on a subset, its keys, and which of them are still to be fitted."""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import HeadConfig
from medfocus_pipeline.config.tuning import FinetuneConfig
from medfocus_pipeline.datasets.subsets import Budget
from medfocus_pipeline.evaluation.draws import Draws
from medfocus_pipeline.features import FeatureKeys
from medfocus_pipeline.heads.protocol import ManyHead
from medfocus_pipeline.heads.table import entry, make_head
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.types import JSON, IntArray

VERSION = 6
"""Of the protocol: raise it when equal keys would no longer mean equal results."""

_SEEDS_A_TASK = 10
"""Seeds that train side by side: the usual number, so that what they share is chosen once."""


@dataclass(frozen=True, slots=True, eq=False)
class PlannedRun:
    """A method on one subset, as the results have it.

    Attributes:
        key: SHA-256 of everything that determines the run's row, its seed too.
        head: configuration of the method.
        focus: parts of the features, or the focus mode of the pictures.
        subset: ``(n,) int64``, positions among the training images, ascending.
        subset_key: SHA-256 of the subset's ids and labels.
    """

    key: str
    head: HeadConfig | FinetuneConfig
    focus: tuple[str, ...]
    budget: Budget
    seed: int
    subset: IntArray
    subset_key: str


@dataclass(frozen=True, slots=True, eq=False)
class Run(PlannedRun):
    """One head to be fitted on one subset.

    Attributes:
        fit_key: the key without the seed where the head does not use it: runs that share it share
            one fit (a linear probe on 100 % is the same for every seed).
    """

    head: HeadConfig
    fit_key: str


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a run predicts.

    Attributes:
        probabilities: ``(n_test, K) float64``.
        chosen: what the head selected on training data.
        seconds: of the fit.
    """

    run: PlannedRun
    probabilities: NDArray[np.float64]
    chosen: JSON
    seconds: float


def plan_runs(head: HeadConfig, keys: FeatureKeys, draws: Draws) -> list[Run]:
    """Every run of one head on one feature set, by budget and seed; reads no embedding.

    Args:
        keys: of the features.
        draws: the subsets.
    """
    common = {
        "version": VERSION,
        "head": head.model_dump(mode="json") | _version(head),
        "embeddings": list(keys.embed_keys),
        "text": _text_key(head, keys),
        "test": draws.test_key,
    }
    runs = []
    for seed, budget, subset, subset_key in draws.subsets:
        fit = {**common, "subset": subset_key, "seed": seed if entry(head).seeded else None}
        # The whole training set decides which test images are clean.
        run = {**fit, "seed": seed, "budget": list(budget), "train": draws.train_key}
        runs.append(
            Run(digest(run), head, keys.focus, budget, seed, subset, subset_key, digest(fit))
        )
    return sorted(runs, key=lambda run: (run.budget, run.seed))


def _version(head: HeadConfig) -> JSON:
    """Of a plug-in, which is not told by its configuration."""
    version = entry(head).version
    return {"version": version} if version else {}


def _text_key(head: HeadConfig, keys: FeatureKeys) -> str | None:
    """What the head reads of the texts."""
    match entry(head).needs:
        case "nothing":
            return None
        case "text tower":
            return keys.prompt_key
        case _:
            return keys.text_key


def to_fit(runs: Sequence[Run], done: Set[str]) -> list[Run]:
    """Runs without a result, and those that train side by side with one.

    Args:
        runs: all of one head.
        done: keys of the runs that have a result.
    """
    missing = {task_of(run) for run in runs if run.key not in done}
    return [run for run in runs if task_of(run) in missing]


def task_of(run: Run) -> tuple[Budget, int]:
    """The task of a run, known without the other runs."""
    size = _SEEDS_A_TASK if isinstance(make_head(run.head), ManyHead) else 1
    return run.budget, run.seed // size


def run_generator(run: Run) -> np.random.Generator:
    """The random numbers of a run's fit."""
    seed = (run.seed,) if entry(run.head).seeded else ()
    return generator(run.head.name, run.subset_key, *seed)
