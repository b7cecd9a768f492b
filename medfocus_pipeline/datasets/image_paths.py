"""The path of each image by its id."""

from collections.abc import Callable, ItemsView, Iterator, Mapping
from functools import cached_property
from typing import Any

import pyarrow as pa

from medfocus_pipeline.columns import id_array
from medfocus_pipeline.ids import Lookup


class Files(Mapping[str, str]):
    """Image id -> path, without a Python object for each.

    Args:
        ids: of the images, each once.
        paths: gives their paths; not asked before the first is wanted.

    Attributes:
        ids: see there.
    """

    def __init__(self, ids: pa.StringArray, paths: Callable[[], pa.StringArray]) -> None:
        self.ids = ids
        self._ask = paths
        self._lookup: Lookup | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """With the paths, for another process."""
        return _known, (self.ids, self._paths)

    @cached_property
    def _paths(self) -> pa.StringArray:
        return self._ask()

    def __getitem__(self, image_id: str) -> str:
        """The path of an image."""
        self._lookup = self._lookup or Lookup(self.ids)
        [place] = self._lookup(id_array([image_id]))
        if place < 0:
            raise KeyError(image_id)
        return str(self._paths[place])

    def __iter__(self) -> Iterator[str]:
        """The ids."""
        return iter(self.ids.to_pylist())

    def __len__(self) -> int:
        """Number of images."""
        return len(self.ids)

    def items(self) -> ItemsView[str, str]:
        """All ids and paths, made at once."""
        return dict(zip(self.ids.to_pylist(), self._paths.to_pylist(), strict=True)).items()


def _known(ids: pa.StringArray, paths: pa.StringArray) -> Files:
    return Files(ids, lambda: paths)
