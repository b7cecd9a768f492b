"""Which fine-tuned runs there are, and which of them nothing can be held out of."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medfocus_pipeline.config.tuning import FinetuneConfig, SearchConfig, TuningConfig
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.evaluation.draws import Labelled, draw
from medfocus_pipeline.evaluation.runs import PlannedRun
from medfocus_pipeline.features import FeatureTable
from medfocus_pipeline.heads.folds import smallest_class
from medfocus_pipeline.stores.keys import digest
from medfocus_pipeline.tuning.validation import LEAST_OF_A_CLASS
from medfocus_pipeline.types import JSON, IntArray

VERSION = 2
"""Of the protocol: raise it when equal keys would no longer mean equal results."""


@dataclass(frozen=True, slots=True, eq=False)
class TunedRun(PlannedRun):
    """One network to be fine-tuned on one subset.

    Attributes:
        head: how it is trained, but for what is searched.
        search: what is searched inside the subset first.
        search_key: SHA-256 of all that a search depends on; runs of one subset share it.
    """

    head: FinetuneConfig
    search: SearchConfig
    search_key: str


def plan_tuned(
    config: TuningConfig, pictures_key: str, *, model: JSON, train: Labelled, test: Labelled
) -> list[TunedRun]:
    """Every run, by budget and seed; reads no picture.

    Args:
        config: fractions, shots, seeds, and how each is trained.
        pictures_key: of their store.
        model: encoder and its files.
        train: all training images, in the table's order.
        test: all test images.
    """
    trained = {
        "version": VERSION,
        "head": config.run.model_dump(mode="json"),
        "pictures": pictures_key,
        "model": model,
    }
    if config.search.trials:
        trained["search"] = config.search.model_dump(mode="json")
    draws = draw(config, train=train, test=test)
    # The whole training set decides which test images are clean.
    common = {**trained, "test": draws.test_key, "train": draws.train_key}
    runs = [
        TunedRun(
            digest({**common, "subset": subset_key, "seed": seed, "budget": list(budget)}),
            config.run,
            (config.run.focus,),
            budget,
            seed,
            subset,
            subset_key,
            config.search,
            digest({**trained, "subset": subset_key}),
        )
        for seed, budget, subset, subset_key in draws.subsets
    ]
    return sorted(runs, key=lambda run: (run.budget, run.seed))


def check_subsets(table: FeatureTable, runs: Sequence[TunedRun]) -> None:
    """Refuse runs that nothing can be held out of, before anything is computed.

    Raises:
        DataError: a class has fewer than two images of a subset, or all of one patient.
    """
    for run in runs:
        if run.head.validation == "none":
            continue
        rows = table.train[run.subset]
        labels = table.labels[rows]
        groups = None if table.groups is None else table.groups[rows]
        if smallest_class(labels, groups) < LEAST_OF_A_CLASS:
            scarce = min(np.unique(labels), key=lambda one: _units(labels, groups, one))
            kind, amount = run.budget
            told = f"{amount:g} %" if kind == "fraction" else f"{amount:g} shots"
            raise DataError(
                f"{told} of the training images of {table.dataset} (seed {run.seed}) have one "
                f"image, or images of one patient only, of {table.classes[scarce]!r}; fine-tuning "
                "needs two of each class, one to learn from and one to choose the epoch by. Take "
                "larger --fractions, or --set run.validation=none"
            )


def _units(labels: IntArray, groups: IntArray | None, label: int) -> int:
    own = labels == label
    return int(own.sum()) if groups is None else len(np.unique(groups[own]))
