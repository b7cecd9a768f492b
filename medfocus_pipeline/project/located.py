"""How far a store is known: not at all, what it would be made from, or open."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from medfocus_pipeline.errors import StoreError
from medfocus_pipeline.sealed import present
from medfocus_pipeline.stores import catalog, lock
from medfocus_pipeline.stores.keys import Recipe
from medfocus_pipeline.stores.opening import DESCRIBED, ArraySpec, create, fitting_rows, open_store
from medfocus_pipeline.stores.store import Store
from medfocus_pipeline.types import ModelIdentity
from medfocus_pipeline.weights import Weights


@dataclass(frozen=True, slots=True)
class _Named:
    """What is known of every store.

    Attributes:
        label: readable name of what it holds.
        ids: of the rows that it should have, each once.
    """

    label: str
    ids: pa.StringArray

    def missing(self) -> pa.StringArray:
        """Ids without a row, each once."""
        return self.ids


@dataclass(frozen=True, slots=True)
class Missing(_Named):
    """A store that is not there; its weights are not here, or the masks that it is made from."""


@dataclass(frozen=True, slots=True)
class Known(_Named):
    """A store that is not there, but could be made.

    Attributes:
        path: folder that it will be in.
        recipe: what it will be made from.
        revision: commit of the hub model that will make it, if any.
    """

    path: Path
    recipe: Recipe
    revision: str | None


@dataclass(frozen=True, slots=True)
class Open(_Named):
    """A store that is there; rows may be missing."""

    store: Store

    @property
    def recipe(self) -> Recipe:
        """What it was made from."""
        return self.store.recipe

    def missing(self) -> pa.StringArray:
        """Ids without a row, each once."""
        return self.store.survey(self.ids).missing


Fillable: TypeAlias = Known | Open
Located: TypeAlias = Missing | Known | Open


@dataclass(frozen=True, slots=True)
class Wanted(_Named):
    """A store that some settings need, wherever it is.

    Attributes:
        folder: of the data set in the cache.
        make: the model's identity -> what the store is made from.
        model: id of the model.
        revision: commit that the model must be of, if any is asked for.
    """

    folder: Path
    make: Callable[[ModelIdentity], Recipe]
    model: str
    revision: str | None

    def locate(self, weights: Weights | None) -> Located:
        """The store; without the weights, the one that differs from it in them at most."""
        if weights is not None:
            return self.by(weights)
        like = self.make(ModelIdentity(self.model))
        store = catalog.find(self.folder, like, revision=self.revision)
        return Open(self.label, self.ids, store) if store else Missing(self.label, self.ids)

    def by(self, weights: Weights) -> Fillable:
        """The store that these weights make."""
        recipe = self.make(weights.identity)
        path = self.folder / recipe.stage / recipe.folder(self.label)
        if present(path / DESCRIBED):
            return Open(self.label, self.ids, open_store(path, expected=recipe))
        return Known(self.label, self.ids, path, recipe, weights.identity.revision)


def incomplete(place: Located) -> bool:
    """Whether a store is not there, or lacks a row."""
    return not isinstance(place, Open) or len(place.missing()) > 0


def to_fill(place: Located) -> bool:
    """Whether a store is not there, or lacks a row; of one that lacks none the index is merged.

    A run that was killed as it merged the index parts may have left them loose.
    """
    if not isinstance(place, Open) or incomplete(place):
        return True
    if place.store.is_scattered:
        # They are good as they are: left where the cache is read-only, or is being written.
        with suppress(StoreError), lock.writing(place.store.path):
            place.store.compact()
    return False


def opened(place: Located | None) -> Store | None:
    """The store, if it is there."""
    return place.store if isinstance(place, Open) else None


def opened_of(places: Iterable[Located]) -> list[Store]:
    """Those of the stores that are there."""
    return [place.store for place in places if isinstance(place, Open)]


@contextmanager
def writing(place: Fillable, specs: Iterable[ArraySpec], *, shard_rows: int) -> Iterator[Store]:
    """The store with its writer's lock held, made if it is not there.

    It is made under the lock too: of two first runs one would else empty what the other writes.

    Args:
        shard_rows: of a small collection; one that is there keeps its own.

    Raises:
        StoreError: another process holds the lock.
    """
    made = place.store if isinstance(place, Open) else place
    arrays = list(specs)
    rows = fitting_rows(shard_rows, rows=len(place.ids), arrays=len(arrays))
    with lock.writing(made.path):
        yield create(made.path, made.recipe, arrays, shard_rows=rows, revision=made.revision)
