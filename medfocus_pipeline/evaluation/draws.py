"""The subsets that heads are fitted on, and their keys."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as quoted

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medfocus_pipeline.columns import glued, id_array, joined, kept, kinds, row_array, whole
from medfocus_pipeline.config import ProbeConfig
from medfocus_pipeline.config.tuning import TuningConfig
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.subsets import Budget, class_members, subsets_of
from medfocus_pipeline.devices import cores
from medfocus_pipeline.ids import groups, in_order
from medfocus_pipeline.types import IntArray

_AT_A_TIME = 1 << 16
"""Lines of images that are put together."""

_NOT_PLAIN = r'["\\]|[^ -~]'
"""What JSON writes otherwise than it is."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images of one side of a split.

    Attributes:
        image_ids: of n images.
        labels: ``(n,) int64`` class indices.
        patients: of each image, or empty words; None where nobody knows them.
    """

    image_ids: pa.StringArray
    labels: IntArray
    patients: pa.StringArray | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> "Labelled":
        """All images of a data set, row by row."""
        ids, patients = (whole(manifest.column(name)) for name in ("image_id", "group"))
        return cls(ids, manifest.labels, patients)

    @property
    def key(self) -> str:
        """SHA-256 of ids, labels and patients; their order does not matter."""
        return Keys(self).of_all

    def part(self, rows: IntArray) -> "Labelled":
        """Some of the images."""
        wanted, patients = row_array(rows), self.patients
        patients = None if patients is None else patients.take(wanted)
        return Labelled(self.image_ids.take(wanted), self.labels[rows], patients)


class Keys:
    """Keys of some images and of their subsets, each by one look at the lines they are made from.

    A key is the `digest` of the sorted ids, labels and patients: the SHA-256 of canonical JSON,
    which is put together here from a line an image.
    """

    def __init__(self, images: Labelled) -> None:
        ids, labels, patients = images.image_ids, images.labels, images.patients
        patients = id_array([""]).take(row_array(0 * labels)) if patients is None else patients
        order = _order(ids, labels, patients)
        self._rank = np.empty_like(order)
        self._rank[order] = np.arange(len(order))
        numbers = row_array(labels).cast(pa.string())
        lines = glued(",[", _spelled(ids), ",", numbers, ",", _spelled(patients), "]")
        self._lines = lines.take(row_array(order))
        self.of_all = self.of(np.arange(len(labels)))

    def of(self, subset: IntArray) -> str:
        """The key of the images at some positions."""
        chosen = np.zeros(len(self._lines), dtype=np.bool_)
        chosen[self._rank[subset]] = True
        rows = np.flatnonzero(chosen)
        key = hashlib.sha256(b"[")
        for first in range(0, len(rows), _AT_A_TIME):
            lines = joined(kept(self._lines, rows[first : first + _AT_A_TIME]))
            key.update(lines if first else lines[1:])
        key.update(b"]")
        return key.hexdigest()


def _order(ids: pa.StringArray, labels: IntArray, patients: pa.StringArray) -> IntArray:
    """The images by id, then label, then patient."""
    first, which = groups(ids)
    if len(first) == len(ids):
        return in_order(ids)
    words, patient = kinds(patients)
    by_word = sorted(range(len(words)), key=words.__getitem__)
    by_id = in_order(ids.take(row_array(first)))
    return np.lexsort((np.argsort(by_word)[patient], labels, np.argsort(by_id)[which]))


def _spelled(texts: pa.StringArray) -> pa.StringArray:
    """Each text as JSON has it."""
    plain = bytes(joined(texts)).isalnum()  # as ids are; the regular expression takes far longer
    if not plain and pc.any(pc.match_substring_regex(texts, _NOT_PLAIN)).as_py():
        words, which = kinds(texts)
        return id_array(list(map(quoted, words))).take(row_array(which))
    return glued('"', texts, '"')


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
    everyone = np.arange(len(train.labels))
    with ThreadPoolExecutor(cores()) as pool:  # sorting and hashing leave the interpreter free
        test_key = pool.submit(lambda: test.key)
        keys, members = Keys(train), class_members(train.image_ids, train.labels)

        def of_seed(seed: int) -> list[tuple[int, Budget, IntArray, str]]:
            drawn = subsets_of(members, fractions=config.fractions, shots=config.shots, seed=seed)
            return [
                (seed, budget, everyone, keys.of_all)
                if len(subset) == len(everyone)  # of every seed: most of the ids
                else (seed, budget, subset, keys.of(subset))
                for budget, subset in drawn.items()
            ]

        subsets = [one for some in pool.map(of_seed, range(config.seeds)) for one in some]
        return Draws(keys.of_all, test_key.result(), subsets)
