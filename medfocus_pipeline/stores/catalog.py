"""Which stores a cache holds: listing, finding without weights, pruning."""

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from medfocus_pipeline.errors import AccessError, StoreError
from medfocus_pipeline.files import disk_errors, remove_tree
from medfocus_pipeline.stores.keys import Recipe
from medfocus_pipeline.stores.lock import writing
from medfocus_pipeline.stores.opening import DESCRIBED, open_store
from medfocus_pipeline.stores.store import Store

STAGES = ("masks", "embeddings", "texts", "pictures")


@dataclass(frozen=True, slots=True)
class Prunable:
    """Something that no image or current setting needs.

    Attributes:
        path: folder or file.
        size: bytes.
        reason: why it is not needed.
    """

    path: Path
    size: int
    reason: str


def datasets(cache: Path) -> list[str]:
    """Names of the data sets that a cache knows."""
    return sorted(path.parent.name for path in cache.glob("*/manifest.parquet"))


def studies(cache: Path) -> list[str]:
    """Names of the studies whose results a cache holds; their embeddings are the data sets'."""
    found = {path.parent.parent.name for path in cache.glob("*/results/adaptation.parquet")}
    return sorted(found - set(datasets(cache)))


def store_folders(dataset: Path, *, stages: Iterable[str] = STAGES) -> Iterator[Path]:
    """Folders of a data set's stores, in stage and name order, usable or not."""
    for stage in stages:
        if (dataset / stage).is_dir():
            yield from sorted(path for path in (dataset / stage).iterdir() if path.is_dir())


def open_stores(dataset: Path, stage: str) -> list[Store]:
    """The usable stores of a stage; those of another schema, or damaged, are left out.

    Raises:
        AccessError: one cannot be read now.
    """
    found = []
    for path in store_folders(dataset, stages=(stage,)):
        try:
            found.append(open_store(path))
        except AccessError:
            raise
        except StoreError:
            continue
    return found


def find(dataset: Path, like: Recipe, *, revision: str | None) -> Store | None:
    """The store that fits a recipe whose weights cannot be hashed here.

    Stage two on a machine without the weights finds stage one's stores this way.

    Args:
        like: a recipe with ``model = {"id": ...}``; an id of None fits every model.
        revision: start of the commit that the weights must be of, if any is asked for.

    Returns:
        The one store that differs in the weights' files at most; None if there is none.

    Raises:
        StoreError: there are several.
    """
    fitting = [
        store
        for store in open_stores(dataset, like.stage)
        if _fits(store.recipe, like) and (store.revision or "").startswith(revision or "")
    ]
    if len(fitting) > 1:
        names = ", ".join(store.path.name for store in fitting)
        raise StoreError(
            f"{len(fitting)} {like.stage} stores differ in their weights only: {names}. "
            "Name the revision with --revision, or remove the ones that are not wanted."
        )
    return fitting[0] if fitting else None


def _fits(recipe: Recipe, like: Recipe) -> bool:
    same_model = like.model["id"] in (None, recipe.model["id"])
    return same_model and (recipe.version, recipe.config, recipe.upstream) == (
        like.version,
        like.config,
        like.upstream,
    )


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def prunable(dataset: Path, *, keep: Set[str], image_ids: Set[str]) -> list[Prunable]:
    """What a data set's cache holds in vain.

    Args:
        keep: keys of the stores in use.
        image_ids: ids of the manifest's images.

    Returns:
        Stores that are not in use or cannot be opened, and index parts of whole shards
        whose images are all gone.

    Raises:
        AccessError: a store cannot be read now: nobody knows whether it is needed.
    """
    found = []
    for path in store_folders(dataset):
        try:
            store = open_store(path)
        except AccessError:
            raise
        except StoreError as error:
            found.append(Prunable(path, size_of(path), str(error)))
            continue
        if store.key not in keep:
            found.append(Prunable(path, size_of(path), "no current setting uses it"))
        elif store.recipe.stage != "texts":
            found += _dead_shards(store, image_ids)
    return found


def _dead_shards(store: Store, image_ids: Set[str]) -> Iterator[Prunable]:
    for part in store.index(columns=["image_id"]).parts.values():
        if image_ids.isdisjoint(part.image_ids):
            yield Prunable(
                store.part_path(part.shard),
                sum(content.size for content in part.files.values()),
                f"all {len(part.image_ids)} images of shard {part.shard} are gone",
            )


def remove(item: Prunable) -> None:
    """Remove one prunable thing: a store's folder, or a shard's index part and data.

    Raises:
        StoreError: a run is writing the store.
    """
    with disk_errors(item.path.parent):
        if item.path.is_symlink():  # what it leads to is not the cache's
            item.path.unlink()
        elif item.path.is_dir():
            with writing(item.path):
                (item.path / DESCRIBED).unlink(missing_ok=True)
            remove_tree(item.path)
        elif item.path.parent.name == "index":
            _remove_shard(item.path)
        else:
            item.path.unlink(missing_ok=True)


def _remove_shard(path: Path) -> None:
    store = open_store(path.parent.parent)
    with writing(store.path):
        part = next(
            p
            for p in store.index(columns=["image_id"]).parts.values()
            if store.part_path(p.shard) == path
        )
        store.drop([part.shard])
        for name in part.files:
            (store.path / name).unlink(missing_ok=True)
