"""The few-shot protocol: which runs there are, which of them share a fit, and fitting them."""

import hashlib
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import groupby
from json.encoder import encode_basestring_ascii as quoted
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.columns import groups, id_array, in_order
from medfocus_pipeline.config import HeadConfig, ProbeConfig
from medfocus_pipeline.config.tuning import TuningConfig
from medfocus_pipeline.datasets.splits import Budget, class_members, subsets_of
from medfocus_pipeline.evaluation.metrics import NAN
from medfocus_pipeline.evaluation.processes import HERE, Executor
from medfocus_pipeline.features import FeatureKeys, FeatureTable
from medfocus_pipeline.heads import entry, make_head
from medfocus_pipeline.heads.folds import folds, smallest_class
from medfocus_pipeline.heads.protocol import FittedHead, ManyHead, TrainingSet
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.types import JSON, IntArray

VERSION = 6
"""Of the protocol: raise it when equal keys would no longer mean equal results."""

_SEEDS_A_TASK = 10
"""Seeds that train side by side: the usual number, so that what they share is chosen once."""

_PREDICTED_AT_ONCE = 4096
"""Test images of a call, so that large sets need little memory beside their features."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images of one side of a split.

    Attributes:
        image_ids: of n images.
        labels: ``(n,) int64`` class indices.
        patients: of each image, or empty words; none at all where nobody knows them.
    """

    image_ids: tuple[str, ...]
    labels: IntArray
    patients: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """SHA-256 of ids, labels and patients; their order does not matter."""
        return Keys(self).of_all

    def part(self, rows: IntArray) -> "Labelled":
        """Some of the images."""
        ids, patients = self.image_ids, self.patients
        return Labelled(
            tuple(ids[row] for row in rows),
            self.labels[rows],
            tuple(patients[row] for row in rows) if patients else (),
        )


class Keys:
    """Keys of some images and of their subsets, each by one look at the lines they are made from.

    A key is the `digest` of the sorted ids, labels and patients: the SHA-256 of canonical JSON,
    which is put together here from a line an image.
    """

    def __init__(self, images: Labelled) -> None:
        patients = images.patients or ("",) * len(images.image_ids)
        rows = list(zip(images.image_ids, images.labels.tolist(), patients, strict=True))
        ids = id_array(images.image_ids)
        if len(groups(ids)[0]) == len(ids):
            self._order = in_order(ids)
        else:
            self._order = np.array(sorted(range(len(rows)), key=rows.__getitem__), np.int64)
        self._lines = [f"[{quoted(one)},{label},{quoted(patient)}]" for one, label, patient in rows]
        self.of_all = self.of(np.arange(len(rows)))

    def of(self, subset: IntArray) -> str:
        """The key of the images at some positions."""
        chosen = np.zeros(len(self._lines), dtype=np.bool_)
        chosen[subset] = True
        lines = map(self._lines.__getitem__, self._order[chosen[self._order]].tolist())
        return hashlib.sha256(f"[{','.join(lines)}]".encode("ascii")).hexdigest()


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str:
        """That a results table gives."""


class PlannedRun(Protocol):
    """A method on one subset, as the results have it; `Run` says what the attributes are."""

    @property
    def key(self) -> str:
        """See `Run`."""

    @property
    def head(self) -> Named:
        """Configuration of the method."""

    @property
    def focus(self) -> tuple[str, ...]:
        """See `Run`."""

    @property
    def budget(self) -> Budget:
        """See `Run`."""

    @property
    def seed(self) -> int:
        """See `Run`."""

    @property
    def subset(self) -> IntArray:
        """See `Run`."""

    @property
    def subset_key(self) -> str:
        """See `Run`."""


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

    run: PlannedRun
    probabilities: NDArray[np.float64]
    chosen: JSON
    seconds: float


@dataclass(frozen=True, slots=True)
class Draws:
    """The subsets that all heads are fitted on, and all networks trained on.

    Attributes:
        train_key, test_key: of all training and test images.
        subsets: seed, budget, subset and its key, as those of a `Run`.
    """

    train_key: str
    test_key: str
    subsets: list[tuple[int, Budget, IntArray, str]]


def draw(config: ProbeConfig | TuningConfig, *, train: Labelled, test: Labelled) -> Draws:
    """The subsets of every budget and seed.

    Args:
        config: fractions, shots and seeds.
        train: all training images, in the feature table's order.
        test: all test images.
    """
    keys, everyone = Keys(train), np.arange(len(train.image_ids))
    members = class_members(train.image_ids, train.labels)
    subsets: list[tuple[int, Budget, IntArray, str]] = []
    for seed in range(config.seeds):
        drawn = subsets_of(members, fractions=config.fractions, shots=config.shots, seed=seed)
        for budget, subset in drawn.items():
            whole = len(subset) == len(everyone)  # of every seed: most of the ids
            subsets.append(
                (seed, budget, everyone, keys.of_all)
                if whole
                else (seed, budget, subset, keys.of(subset))
            )
    return Draws(keys.of_all, test.key, subsets)


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
            Run(digest(run), digest(fit), head, keys.focus, budget, seed, subset, subset_key)
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


def sweep(
    table: FeatureTable, runs: Sequence[Run], *, within: Executor = HERE
) -> Iterator[list[Outcome]]:
    """Fit runs of one head, budget by budget; the processes begin before the first is asked for.

    The largest budget comes first, so that no process waits long for the last fit. A head
    computes with one thread, so that results do not depend on the number of processes.

    Args:
        table: the features that the runs were planned for.
        within: where.

    Returns:
        The outcomes of one budget's runs after another's, the largest budget first.
    """
    budgets = [list(group) for _, group in groupby(runs, key=lambda run: run.budget)]
    budgets.sort(key=lambda budget: -len(budget[0].subset))
    tasks = [_tasks(budget) for budget in budgets]
    fits = within.map(fit_and_predict, table, [task for budget in tasks for task in budget])
    return (_outcomes(*one, fits) for one in zip(budgets, tasks, strict=True))


def _outcomes(
    budget: Sequence[Run], tasks: Sequence[Sequence[Run]], fits: "Iterator[list[Fit]]"
) -> list[Outcome]:
    """Those of one budget, whose tasks' fits are the next ones."""
    found: dict[str, Fit] = {}
    for task in tasks:
        found |= zip([run.fit_key for run in task], next(fits), strict=True)
    return [Outcome(run, *found[run.fit_key]) for run in budget]


def to_fit(runs: Sequence[Run], done: Set[str]) -> list[Run]:
    """Runs without a result, and those that train side by side with one.

    Args:
        runs: all of one head.
        done: keys of the runs that have a result.
    """
    missing = {_place(run) for run in runs if run.key not in done}
    return [run for run in runs if _place(run) in missing]


def _place(run: Run) -> tuple[Budget, int]:
    """The task of a run, known without the other runs."""
    size = _SEEDS_A_TASK if isinstance(make_head(run.head), ManyHead) else 1
    return run.budget, run.seed // size


def _tasks(budget: Sequence[Run]) -> list[list[Run]]:
    """The distinct fits of one budget's runs: one by one, or so many seeds side by side."""
    distinct = list({run.fit_key: run for run in budget}.values())
    return [list(group) for _, group in groupby(distinct, key=_place)]


Fit = tuple[NDArray[np.float64], JSON, float]
"""Test probabilities, what was chosen, and the seconds of the fit."""


def fit_and_predict(table: FeatureTable, runs: Sequence[Run]) -> list[Fit]:
    """Fit runs of one head and budget, then read the test images."""
    started = time.perf_counter()
    fitted = fit(table, runs)
    seconds = (time.perf_counter() - started) / len(runs)
    return [(predict(one, table), one.chosen, seconds) for one in fitted]


def fit(table: FeatureTable, runs: Sequence[Run]) -> Sequence[FittedHead]:
    """Train on the runs' subsets; sees no test image."""
    head = make_head(runs[0].head)
    trains = [training_set(table, run) for run in runs]
    rngs = [run_generator(run) for run in runs]
    if isinstance(head, ManyHead):
        return head.fit_many(trains, rngs)
    return [head.fit(train, rng) for train, rng in zip(trains, rngs, strict=True)]


def held_out_accuracy(table: FeatureTable, run: Run, *, n_folds: int = 3) -> float:
    """Accuracy of a run's head by cross-validation inside its subset; sees no test image.

    Folds are stratified, with whole groups on one side. For the ranking of rows, not to be
    reported: a fold learns from fewer images than the run.

    Returns:
        nan where a class is too small for two folds.
    """
    rows = table.train[run.subset]
    labels = table.labels[rows]
    groups = None if table.groups is None else table.groups[rows]
    count = min(n_folds, smallest_class(labels, groups))
    if count < 2:
        return NAN
    right, rng = [], generator("held out", run.subset_key)
    for rest, held_out in folds(labels, n_folds=count, rng=rng, groups=groups):
        part = replace(table, test=rows[held_out])
        [(found, _, _)] = fit_and_predict(part, [replace(run, subset=run.subset[rest])])
        right.append(found.argmax(axis=1) == labels[held_out])
    return float(np.concatenate(right).mean()) if right else NAN


def training_set(table: FeatureTable, run: Run) -> TrainingSet:
    """The subset of a run, in an order that does not depend on the files'."""
    # By id: a key does not tell the order of the files, so the fit must not depend on it.
    rows = sorted(
        table.train[run.subset], key=lambda row: (table.image_ids[row], table.labels[row])
    )
    return TrainingSet(
        features=table.features[rows],
        labels=table.labels[rows],
        n_classes=len(table.classes),
        text=table.text,
        temperature=table.temperature,
        prompts=table.prompts,
        groups=None if table.groups is None else table.groups[rows],
    )


def run_generator(run: Run) -> np.random.Generator:
    """The random numbers of a run's fit."""
    seed = (run.seed,) if entry(run.head).seeded else ()
    return generator(run.head.name, run.subset_key, *seed)


def predict(fitted: FittedHead, table: FeatureTable) -> NDArray[np.float64]:
    """Probabilities of the test images, ``(n_test, K) float64``: the one reading of the test.

    Heads compute in float64, so that all at once would take twice what the features do.
    """
    parts = range(0, max(1, len(table.test)), _PREDICTED_AT_ONCE)
    return np.concatenate(
        [
            fitted.predict_proba(table.features[table.test[start : start + _PREDICTED_AT_ONCE]])
            for start in parts
        ]
    )
