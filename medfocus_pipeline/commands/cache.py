"""``medfocus cache``: list, verify and prune the stores."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from medfocus_pipeline.commands.options import (
    DEFAULT_CACHE,
    AsJson,
    CacheFolder,
    DataFolder,
    DatasetName,
    ProfileName,
)
from medfocus_pipeline.commands.output import human, out, say, say_columns, say_json
from medfocus_pipeline.datasets import manifest as manifests
from medfocus_pipeline.errors import (
    AccessError,
    ConfigError,
    MedFocusError,
    StoreError,
    counted,
    did_you_mean,
)
from medfocus_pipeline.files import leftovers
from medfocus_pipeline.project.settings import open_context
from medfocus_pipeline.stores import catalog
from medfocus_pipeline.stores.opening import open_store
from medfocus_pipeline.types import JSON

app = typer.Typer(help="List, verify and prune the stores.", no_args_is_help=True)


@app.command("ls", epilog="Example: medfocus cache ls brain")
def list_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    as_json: AsJson = False,
) -> None:
    """List the stores of one data set, or of all, and the results of studies."""
    del data  # every command takes it; what is cached does not depend on it
    names = _names(dataset, cache_, studies=True)
    rows = [row for name in names for row in _listed(name, cache_, profile)]
    if as_json:
        say_json(rows)
        return
    lines = []
    for row in rows:
        count = "?" if row["rows"] is None else f"{row['rows']:,}"
        place = (row["dataset"], row["stage"], row["store"])
        lines.append((*place, count, human(row["bytes"]), row["in_use"]))
    say_columns(("data set", "stage", "store", "rows", "size", "in use"), lines)
    say(f"{human(sum(row['bytes'] for row in rows))} in all")


def _listed(name: str, cache: Path, profile: str | None) -> Iterator[JSON]:
    if name in catalog.studies(cache):
        folder = cache / name / "results"
        facts = {"dataset": name, "stage": "adapt", "store": folder.name}
        yield {**facts, "rows": _runs(folder), "bytes": catalog.size_of(folder), "in_use": "yes"}
        return
    used = _keys_in_use(name, cache, profile)
    for path in catalog.store_folders(cache / name):
        rows, use = _rows_and_use(path, used)
        facts = {"dataset": name, "stage": path.parent.name, "store": path.name}
        yield {**facts, "rows": rows, "bytes": catalog.size_of(path), "in_use": use}


def _rows_and_use(path: Path, used: set[str]) -> tuple[int | None, str]:
    try:
        store = open_store(path)
    except AccessError:
        return None, "cannot be read now"
    except StoreError:
        return None, "unusable"
    return len(store.index(columns=["image_id"]).done), "yes" if store.key in used else "no"


def _runs(folder: Path) -> int | None:
    """Of a study; None where its results are damaged."""
    from medfocus_pipeline.evaluation import results

    try:
        return len(results.read(folder, "adaptation"))
    except StoreError:
        return None


@app.command("verify", epilog="Example: medfocus cache verify brain --repair")
def verify_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Forget what is damaged, so that a run makes it.")
    ] = False,
) -> None:
    """Read every file and compare it with its seal; exit with 1 if one is wrong."""
    from medfocus_pipeline.commands.verify import verify

    del data, profile  # every command takes them; the stores are all in the cache
    wrong = 0
    for name in _names(dataset, cache_, studies=True):
        wrong += verify(cache_ / name, repair=repair)
    say("everything is as it was written" if not wrong else counted(wrong, "problem"))
    if wrong:
        if not repair:
            say("Run: medfocus cache verify --repair, then the stages again.")
        raise typer.Exit(int(not repair))


@app.command("prune", epilog="Example: medfocus cache prune brain --yes")
def prune_command(
    dataset: DatasetName = None,
    data: DataFolder = None,
    cache_: CacheFolder = DEFAULT_CACHE,
    profile: ProfileName = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove stores that no current setting uses, and shards of images that are gone."""
    from medfocus_pipeline.evaluation.processes import remove_left_over

    del data
    items = []
    for name in _names(dataset, cache_):
        used = _keys_in_use(name, cache_, profile)
        ids = set(manifests.read(cache_ / name / "manifest.parquet").image_ids)
        items += catalog.prunable(cache_ / name, keep=used, image_ids=ids)
        items += [
            catalog.Prunable(path, catalog.size_of(path), "a run that was killed left it")
            for path in leftovers(cache_ / name)
        ]
    for folder in remove_left_over():
        say(f"{folder}: a run that was killed left it, removed")
    for item in items:
        say(f"{item.path}: {human(item.size)}, {item.reason}")
    if not items:
        say("nothing to prune")
        return
    total = human(sum(item.size for item in items))
    if not yes and not (out.is_terminal and typer.confirm(f"Remove {total}?")):
        say(f"Nothing was removed. Run again with --yes to remove {total}.")
        return
    for item in items:
        catalog.remove(item)
    say(f"removed {total}")


def _keys_in_use(name: str, cache: Path, profile: str | None) -> set[str]:
    """Keys of the stores that the data set's settings use.

    Where that cannot be told, because a store of them is damaged, it is every usable one.
    """
    from medfocus_pipeline.commands.scan import open_dataset
    from medfocus_pipeline.commands.status import used_stores
    from medfocus_pipeline.project.picture_store import pictures_in_use
    from medfocus_pipeline.project.project import Project

    context = open_context(name, data=None, cache=cache, profile=profile)
    try:
        project = Project(context, open_dataset(context, rescan=False))
        return used_stores(project).keys() | pictures_in_use(context.folder / "results")
    except MedFocusError as error:
        say(f"{name}: {error}")
        stores = (catalog.open_stores(context.folder, stage) for stage in catalog.STAGES)
        return {store.key for some in stores for store in some}


def _names(dataset: str | None, cache: Path, *, studies: bool = False) -> Iterator[str]:
    names = catalog.datasets(cache) + (catalog.studies(cache) if studies else [])
    if dataset is not None and dataset not in names:
        known = ", ".join(names) or "none"
        near = did_you_mean(dataset, names)
        raise ConfigError(f"{cache} has no data set {dataset!r}.{near} Known there: {known}.")
    yield from [dataset] if dataset else names
