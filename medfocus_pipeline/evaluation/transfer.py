"""From domain to domain: which runs there are of a study, and fitting them."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medfocus_pipeline.adaptation import METHODS, Adapted, Task, make_method
from medfocus_pipeline.adaptation.distance import proxy_a_distance
from medfocus_pipeline.columns import id_array
from medfocus_pipeline.config.adaptation import AdaptationConfig, AdaptConfig
from medfocus_pipeline.datasets.study_card import SEVERAL
from medfocus_pipeline.datasets.subsets import nested_subsets
from medfocus_pipeline.evaluation.draws import Labelled
from medfocus_pipeline.evaluation.metrics import NAN
from medfocus_pipeline.evaluation.result_rows import prediction_rows
from medfocus_pipeline.features import FeatureTable
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.types import JSON, IntArray

VERSION = 2
"""Of the protocol: raise it when equal keys would no longer mean equal results."""

REFERENCE = "source"
"""The method that others are held against."""


@dataclass(frozen=True, slots=True, eq=False)
class DomainTable:
    """The images of all domains of a study.

    Attributes:
        table: of n images; `train` and `test` are of all domains, `test` without images that any
            domain trains on.
        names: of the domains.
        domains: ``(n,) int64``, index into `names`.
        synthetic: ``(n,) bool``, images that somebody made: they train as a source only.
        plain: number of views that are not augmented; the others stand behind them.
        keys: of each domain's embedding stores.
        augmented_keys: those of the augmented views; empty if there are none.
    """

    table: FeatureTable
    names: tuple[str, ...]
    domains: IntArray
    synthetic: NDArray[np.bool_]
    plain: int
    keys: tuple[tuple[str, ...], ...]
    augmented_keys: tuple[tuple[str, ...], ...] = ()

    def train(self, names: Sequence[str]) -> IntArray:
        """Rows of the training images of some domains."""
        return self._of(self.table.train, names)

    def test(self, name: str) -> IntArray:
        """Rows of the test images of a domain."""
        return self._of(self.table.test, [name])

    def unlabelled(self, name: str) -> IntArray:
        """Rows of what a target shows of itself: its training images, without synthetic ones."""
        rows = self.train([name])
        return rows[~self.synthetic[rows]]

    def labelled(self, rows: IntArray) -> Labelled:
        """Ids, labels and groups of some images."""
        table, groups = self.table, self.table.groups
        patients = None if groups is None else id_array(list(map(str, groups[rows])))
        ids = id_array([table.image_ids[row] for row in rows])
        return Labelled(ids, table.labels[rows], patients)

    def _of(self, rows: IntArray, names: Sequence[str]) -> IntArray:
        """By id: a key does not tell the order of the files, so no fit may depend on it."""
        places = [self.names.index(name) for name in names]
        own = rows[np.isin(self.domains[rows], places)]
        return np.array(sorted(own.tolist(), key=lambda row: self.table.image_ids[row]), np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """All runs of one method from some sources to a target, one a seed: they are fitted together.

    Attributes:
        sources: names of domains; the target alone for a method that reads the target's labels.
        domains: ``(n,) int64`` in 0 .. D - 1, which source each row is of.
        source, unlabelled, test: rows of the table.
        subsets: positions in `source` that each seed trains on.
        keys: of the runs, in the order of the seeds 0, 1 …
        views: number of views that the method learns from.
    """

    method: AdaptationConfig
    sources: tuple[str, ...]
    target: str
    domains: IntArray
    source: IntArray
    unlabelled: IntArray
    test: IntArray
    subsets: tuple[IntArray, ...]
    keys: tuple[str, ...]
    subset_keys: tuple[str, ...]
    views: int
    fraction: float

    @property
    def label(self) -> str:
        """The sources as they stand in the table."""
        return SEVERAL.join(self.sources)


def plan_transfers(
    data: DomainTable, config: AdaptConfig, pairs: Sequence[tuple[tuple[str, ...], str]]
) -> list[Transfer]:
    """Every method on every pair; a method that reads the target's labels once a target.

    A method of augmented views is left out where the table has none.
    """
    found: dict[tuple[str, tuple[str, ...], str], Transfer] = {}
    for method in config.methods:
        entry = METHODS[method.name]
        views = data.table.features.shape[1] if entry.augmented else data.plain
        if entry.augmented and views == data.plain:
            continue
        for sources, target in pairs:
            own = (target,) if entry.reads_target_labels else sources
            place = (method.name, own, target)
            if place not in found:
                found[place] = _transfer(data, config, method, own, target, views)
    return list(found.values())


def _transfer(
    data: DomainTable,
    config: AdaptConfig,
    method: AdaptationConfig,
    sources: tuple[str, ...],
    target: str,
    views: int,
) -> Transfer:
    source, unlabelled, test = data.train(sources), data.unlabelled(target), data.test(target)
    if METHODS[method.name].reads_target_labels:
        source = unlabelled
    names = [data.names.index(name) for name in sources]
    domains = np.array([names.index(domain) for domain in data.domains[source]], np.int64)
    known = data.labelled(source)
    # Of each class of each source alike, so that a small hospital is not left out.
    strata = known.labels + len(data.table.classes) * domains
    drawn = [
        nested_subsets(known.image_ids, strata, fractions=[config.fraction], shots=(), seed=seed)
        for seed in range(config.seeds)
    ]
    subsets = tuple(one["fraction", config.fraction] for one in drawn)
    subset_keys = tuple(known.part(subset).key for subset in subsets)
    involved = [*names, data.names.index(target)]
    stores = [data.keys] if views == data.plain else [data.keys, data.augmented_keys]
    common = {
        "version": VERSION,
        "method": method.model_dump(mode="json"),
        "embeddings": [keys[place] for keys in stores for place in involved],
        "views": views,
        "source": [known.key, digest([sources, domains.tolist()])],
        # Without labels: no label of the target's training images is in the key, or in the fit.
        "target": digest(sorted(data.labelled(unlabelled).image_ids.to_pylist())),
        "test": data.labelled(test).key,
        "fraction": config.fraction,
    }
    keys = tuple(
        digest({**common, "subset": key, "seed": seed}) for seed, key in enumerate(subset_keys)
    )
    rows = (domains, source, unlabelled, test)
    return Transfer(
        *(method, sources, target, *rows, subsets, keys, subset_keys, views), config.fraction
    )


Outcome = tuple[Adapted, float, float]
"""What a method says, the proxy A-distance of what it sees (nan: not measured), and seconds."""


def fit_transfer(table: FeatureTable, one: Transfer) -> Outcome:
    """Fit a method with all seeds, and measure how far apart it leaves the domains."""
    started = time.perf_counter()
    entry = METHODS[one.method.name]
    source, target = table.features[one.source], table.features[one.unlabelled]
    groups = np.arange(len(table.labels)) if table.groups is None else table.groups
    task = Task(
        source=np.ascontiguousarray(source[:, : one.views]),
        labels=table.labels[one.source],
        domains=one.domains,
        groups=groups[one.source],
        target=np.ascontiguousarray(target[:, : one.views]),
        test=table.features[one.test, 0],
        classes=len(table.classes),
    )
    adapted = make_method(one.method).adapt(task, one.subsets, range(len(one.subsets)))
    seconds = (time.perf_counter() - started) / len(one.subsets)
    distance = NAN
    if not entry.reads_target_labels and (adapted.projected or one.method.name == REFERENCE):
        seen = adapted.projected or (task.source[:, 0], task.target[:, 0])
        distance = proxy_a_distance(*seen, generator("distance", one.label, one.target))
    return adapted, distance, seconds


def transfer_rows(table: FeatureTable, one: Transfer, outcome: Outcome) -> list[JSON]:
    """The rows of `results.ADAPTATION`, one a seed."""
    adapted, distance, seconds = outcome
    rows = []
    for seed, key in enumerate(one.keys):
        rows.append(
            {
                "run_key": key,
                "method": one.method.name,
                "source": one.label,
                "target": one.target,
                "encoder": table.keys.encoder,
                "focus": SEVERAL.join(table.keys.focus),
                "fraction": one.fraction,
                "seed": seed,
                "n_train": len(one.subsets[seed]),
                "n_target": len(one.unlabelled),
                "n_test": len(one.test),
                "distance": None if np.isnan(distance) else distance,
                "seconds": seconds,
                "chosen": json.dumps(dict(adapted.choices[seed]), sort_keys=True),
                "subset_key": one.subset_keys[seed],
            }
        )
    return rows


def transfer_predictions(table: FeatureTable, one: Transfer, outcome: Outcome) -> pa.Table:
    """The rows of `results.PREDICTIONS`: every test image of every seed."""
    tested = replace(table, test=one.test, clean=np.ones(len(one.test), np.bool_))
    answers = zip(one.keys, outcome[0].probabilities, strict=True)
    return pa.concat_tables([prediction_rows(tested, key, own) for key, own in answers])


def transfer_subsets(table: FeatureTable, one: Transfer) -> list[JSON]:
    """The rows of `results.SUBSETS`, one a seed."""
    return [
        {
            "subset_key": key,
            "image_ids": sorted(table.image_ids[row] for row in one.source[subset]),
        }
        for key, subset in zip(one.subset_keys, one.subsets, strict=True)
    ]
