"""What a network takes of pictures: as they are or augmented, computed once where that is one."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.augmentation import draw
from medfocus_pipeline.config.tuning import Augmentation, FinetuneConfig
from medfocus_pipeline.files import disk_errors
from medfocus_pipeline.seeding import generator
from medfocus_pipeline.tuning.network import Network
from medfocus_pipeline.types import IntArray

if TYPE_CHECKING:
    from torch import Tensor

_AT_ONCE = 4
"""Pictures of a call that computes what is kept, always as many: what is kept of a picture must not
depend on which others were missing, or a run that goes on would have other numbers."""

PLAIN = -1
"""The rendition that is not augmented."""


class Pictures:
    """Pictures of a data set, and what the frozen parts of networks make of them.

    Several runs of one encoder share it: below a block that is trained it is the same network.
    What it gives is kept in files, of which the system holds in memory what it has room for; they
    end with the context.

    Args:
        pictures: ``(n, s, s, 3) uint8``.
        names: of the n pictures; with the rendition they say how one is augmented.
        folder: for the files; what a killed run left there is removed.
    """

    def __init__(self, pictures: NDArray[np.uint8], names: Sequence[str], folder: Path) -> None:
        self._pictures = pictures
        self._names = names
        self._folder = folder
        self._kept: dict[str, tuple[NDArray[Any], NDArray[np.bool_]]] = {}

    def __enter__(self) -> "Pictures":
        """Begins with an empty folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Ends with all files removed."""
        self._kept.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def plain(self, rows: IntArray) -> NDArray[np.uint8]:
        """Some pictures as they are."""
        return self._pictures[rows]

    def inputs(
        self, network: Network, rows: IntArray, *, augmentation: Augmentation, rendition: int
    ) -> "Tensor":
        """What a network takes, see `Network.inputs`, of some pictures.

        Args:
            rows: numbers of the pictures, any of them more than once.
            augmentation: name of one.
            rendition: which; `PLAIN` is none.

        Raises:
            StoreError: the disk is full.
        """
        if not network.computed_once:
            return network.inputs(self._seen(rows, augmentation, rendition))
        what = "plain" if rendition == PLAIN else f"{augmentation}-{rendition}"

        def compute(some: IntArray) -> "Tensor":
            return network.inputs(self._seen(some, augmentation, rendition))

        return self._once(f"{network.trained}-{what}", rows, compute)

    def embeddings(self, network: Network, rows: IntArray) -> "Tensor":
        """Of some pictures as they are, ``(n, d) float32`` of length 1.

        Args:
            network: as it was loaded, nothing of it was trained yet: so it is that of all runs.
            rows: numbers of the pictures.

        Raises:
            StoreError: the disk is full.
        """

        def compute(some: IntArray) -> "Tensor":
            return network.embeddings(network.inputs(self.plain(some)))

        return self._once("embedding", rows, compute)

    def _once(self, name: str, rows: IntArray, compute: "Callable[[IntArray], Tensor]") -> "Tensor":
        import torch

        missing = np.unique(rows)
        if name in self._kept:
            missing = missing[~self._kept[name][1][missing]]
        for start in range(0, len(missing), _AT_ONCE):
            some = missing[start : start + _AT_ONCE]
            filled = np.pad(some, (0, _AT_ONCE - len(some)), "edge")
            self._keep(name, some, compute(filled)[: len(some)])
        return torch.from_numpy(self._kept[name][0][rows])

    def _keep(self, name: str, rows: IntArray, found: "Tensor") -> None:
        with disk_errors(self._folder):
            if name not in self._kept:
                self._folder.mkdir(parents=True, exist_ok=True)
                shape = (len(self._pictures), *found.shape[1:])
                made: NDArray[Any] = np.memmap(self._folder / name, np.float32, "w+", shape=shape)
                self._kept[name] = (made, np.zeros(len(made), np.bool_))
            array, done = self._kept[name]
            array[rows], done[rows] = found.numpy(), True

    def _seen(
        self, rows: IntArray, augmentation: Augmentation, rendition: int
    ) -> NDArray[np.uint8]:
        pictures = self.plain(rows)
        if rendition == PLAIN or augmentation == "none":
            return pictures
        names = (self._names[row] for row in rows.tolist())
        return np.stack(
            [
                draw(augmentation, generator("rendition", name, rendition)).picture(picture)
                for name, picture in zip(names, pictures, strict=True)
            ]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Inputs of one network by position in a part of the pictures.

    Attributes:
        rows: ``(n,) int64``, numbers of the pictures.
        config: says how they are augmented.
    """

    pictures: Pictures
    network: Network
    rows: IntArray
    config: FinetuneConfig

    def plain(self, positions: IntArray) -> "Tensor":
        """Of the pictures as they are."""
        return self._inputs(positions, PLAIN)

    def embeddings(self, positions: IntArray) -> "Tensor":
        """Of the pictures as they are, ``(n, d) float32`` of length 1, by the network as loaded."""
        if self.network.computed_once:
            return self.network.embeddings(self.plain(positions))
        return self.pictures.embeddings(self.network, self.rows[positions])

    def drawn(self, positions: IntArray, *, epoch: int) -> "Tensor":
        """Of the pictures as an epoch shows them."""
        if self.config.augmentation == "none":
            return self.plain(positions)
        several = self.network.computed_once
        return self._inputs(positions, epoch % self.config.renditions if several else epoch)

    def _inputs(self, positions: IntArray, rendition: int) -> "Tensor":
        return self.pictures.inputs(
            self.network,
            self.rows[positions],
            augmentation=self.config.augmentation,
            rendition=rendition,
        )
