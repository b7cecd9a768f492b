"""The subsets that heads are fitted on, and their keys."""

import hashlib
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quoted

import numpy as np

from medfocus_pipeline.columns import groups, id_array, in_order
from medfocus_pipeline.config import ProbeConfig
from medfocus_pipeline.config.tuning import TuningConfig
from medfocus_pipeline.datasets.subsets import Budget, class_members, subsets_of
from medfocus_pipeline.types import IntArray


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
