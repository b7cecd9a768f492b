"""The few-shot protocol: which runs there are, which of them share a fit, and fitting them."""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.config import FusionConfig, HeadConfig, ProbeConfig
from medfocus_pipeline.datasets.splits import Budget, nested_subsets
from medfocus_pipeline.features import FeatureKeys, FeatureTable
from medfocus_pipeline.heads import make_head
from medfocus_pipeline.heads.protocol import FittedHead, TrainingSet
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.types import JSON, IntArray

VERSION = 1
"""Of the protocol: raise it when equal keys would no longer mean equal results."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images of one side of a split: ids, and ``(n,) int64`` class indices."""

    image_ids: tuple[str, ...]
    labels: IntArray

    @property
    def key(self) -> str:
        """SHA-256 of ids and labels; their order does not matter."""
        return digest(sorted(zip(self.image_ids, self.labels.tolist(), strict=True)))


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One head to be fitted on one subset.

    Attributes:
        key: SHA-256 of everything that determines the run's row, its seed too.
        fit_key: the same without the seed where the head does not use it: runs that share
            it share one fit (a linear probe on 100 % is the same for every seed).
        subset: ``(n,) int64``, positions among the training images, ascending.
        subset_key: SHA-256 of the subset's ids and labels.
    """

    key: str
    fit_key: str
    head: HeadConfig
    focus: tuple[str, ...]
    budget: Budget
    seed: int
    subset: IntArray
    subset_key: str


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a run predicts.

    Attributes:
        probabilities: ``(n_test, K) float64``.
        chosen: what the head selected on training data.
        seconds: of the fit.
    """

    run: Run
    probabilities: NDArray[np.float64]
    chosen: JSON
    seconds: float


def plan_runs(
    config: ProbeConfig, head: HeadConfig, keys: FeatureKeys, *, train: Labelled, test: Labelled
) -> list[Run]:
    """Every run of one head on one feature set, by budget and seed; reads no embedding.

    Args:
        config: fractions, shots and seeds.
        keys: of the features.
        train: all training images, in the feature table's order.
        test: all test images.
    """
    common = {
        "version": VERSION,
        "head": head.model_dump(mode="json"),
        "embeddings": list(keys.embed_keys),
        "text": keys.text_key if uses_text(head) else None,
        "test": test.key,
    }
    train_key = train.key
    runs = []
    for seed in range(config.seeds):
        subsets = nested_subsets(
            train.image_ids,
            train.labels,
            fractions=config.fractions,
            shots=config.shots,
            seed=seed,
        )
        for budget, subset in subsets.items():
            ids = tuple(train.image_ids[position] for position in subset)
            subset_key = Labelled(ids, train.labels[subset]).key
            fit = {**common, "subset": subset_key, "seed": seed if uses_seed(head) else None}
            # The whole training set decides which test images are clean.
            run = {**fit, "seed": seed, "budget": list(budget), "train": train_key}
            runs.append(
                Run(digest(run), digest(fit), head, keys.focus, budget, seed, subset, subset_key)
            )
    return sorted(runs, key=lambda run: (run.budget, run.seed))


def uses_seed(head: HeadConfig) -> bool:
    """Whether the seed does more than draw the subset: fusion draws its first weights."""
    return isinstance(head, FusionConfig)


def uses_text(head: HeadConfig) -> bool:
    """Whether the class texts are an input of the head."""
    return isinstance(head, FusionConfig)


def sweep(table: FeatureTable, runs: Sequence[Run], *, workers: int = 1) -> Iterator[list[Outcome]]:
    """Fit runs of one head, budget by budget.

    A head computes with one thread, so that results do not depend on `workers`.

    Args:
        table: the features that the runs were planned for.
        workers: processes.

    Yields:
        The outcomes of one budget's runs, in the order of the runs.
    """
    with _processes(table, workers) as mapped:
        for _, group in groupby(runs, key=lambda run: run.budget):
            batch = list(group)
            distinct = list({run.fit_key: run for run in batch}.values())
            fits = dict(zip([run.fit_key for run in distinct], mapped(distinct), strict=True))
            yield [Outcome(run, *fits[run.fit_key]) for run in batch]


Fit = tuple[NDArray[np.float64], JSON, float]
"""Test probabilities, what was chosen, and the seconds of the fit."""


@contextmanager
def _processes(
    table: FeatureTable, workers: int
) -> Iterator[Callable[[Iterable[Run]], Iterable[Fit]]]:
    """A ``map`` over runs, in this process or in several that each got the table once."""
    if workers == 1:
        yield partial(map, partial(fit_and_predict, table))
        return
    # Not forked: a forked child may hang in the thread pools that BLAS and torch had here.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _adopt, (table,)) as pool:
        yield partial(pool.map, _fit_adopted)


_adopted: list[FeatureTable] = []
"""In a worker process: the table that its runs read."""


def _adopt(table: FeatureTable) -> None:
    _adopted[:] = [table]


def _fit_adopted(run: Run) -> Fit:
    return fit_and_predict(_adopted[0], run)


def fit_and_predict(table: FeatureTable, run: Run) -> Fit:
    """Fit a run, then read the test images."""
    started = time.perf_counter()
    fitted = fit(table, run)
    seconds = time.perf_counter() - started
    return predict(fitted, table), fitted.chosen, seconds


def fit(table: FeatureTable, run: Run) -> FittedHead:
    """Train on the run's subset; sees no test image."""
    # By id: a key does not tell the order of the files, so the fit must not depend on it.
    rows = sorted(
        table.train[run.subset], key=lambda row: (table.image_ids[row], table.labels[row])
    )
    train = TrainingSet(
        features=table.features[rows],
        labels=table.labels[rows],
        n_classes=len(table.classes),
        text=table.text,
    )
    seed = (run.seed,) if uses_seed(run.head) else ()
    return make_head(run.head).fit(train, generator(run.head.name, run.subset_key, *seed))


def predict(fitted: FittedHead, table: FeatureTable) -> NDArray[np.float64]:
    """Probabilities of the test images, ``(n_test, K) float64``: the one reading of the test."""
    return fitted.predict_proba(table.features[table.test])
