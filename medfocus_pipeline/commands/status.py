"""``medfocus status``: what is cached, stale or missing, and what each command would do."""

from rich.table import Table

from medfocus_pipeline.commands.progress import human, out, say, say_problems
from medfocus_pipeline.commands.scan import open_dataset
from medfocus_pipeline.errors import MedFocusError
from medfocus_pipeline.project.dataset import Dataset
from medfocus_pipeline.project.fits import fitted_keys
from medfocus_pipeline.project.plans import plan, split_of
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import Located, Stores, locate_masks, locate_stores
from medfocus_pipeline.stores import catalog


def run(context: Context) -> None:
    """Print the state of every stage; it computes nothing and writes the manifest at most."""
    dataset = open_dataset(context, images_needed=False)
    stores = used_stores(context, dataset)
    table = Table("stage", "what", "done", "next", box=None)
    count = f"{len(dataset.manifest.usable):,} images, {len(dataset.files):,} distinct"
    table.add_row("scan", dataset.card.title, count, "nothing")
    waiting = [
        _add(table, "masks" if place is stores.masks else "embed", place) for place in stores.all()
    ]
    refused = _add_probe(table, context, dataset, stores, ready=not any(waiting))
    out.print(table)
    if refused:
        say(f"probe: {refused}")
    _say_stale(context, stores)
    say_problems(dataset.problems)


def _add_probe(
    table: Table, context: Context, dataset: Dataset, stores: Stores, *, ready: bool
) -> MedFocusError | None:
    try:
        counts = _count_runs(context, dataset, stores)
    except MedFocusError as error:
        return error
    for label, done, planned in counts:
        todo = "nothing" if done == planned else f"fit {planned - done:,} runs"
        if done < planned and not ready:
            todo = "the rows above first"
        table.add_row("probe", label, f"{done:,} of {planned:,} runs", todo)
    return None


def used_stores(context: Context, dataset: Dataset) -> Stores:
    """The stores of the settings used last, or else of the profile."""
    stores = locate_stores(context, dataset, context.embed.configs(auto=dataset.card.roi))
    masks = stores.masks or locate_masks(context, dataset, context.masks)
    return Stores(masks, stores.embeddings, stores.texts)


def _add(table: Table, stage: str, place: Located) -> int:
    total = len(set(place.ids))
    missing = len(place.missing())
    todo = f"compute {missing:,} rows" if missing else "nothing"
    table.add_row(stage, place.label, f"{total - missing:,} of {total:,} rows", todo)
    return missing


def _say_stale(context: Context, stores: Stores) -> None:
    known = {place.store.path for place in stores.all() if place.store}
    stale = [path for path in catalog.store_folders(context.folder) if path not in known]
    if stale:
        size = human(sum(catalog.size_of(path) for path in stale))
        say(f"{len(stale)} stores are of other settings or weights ({size}):")
        for path in stale:
            say(f"  {path.parent.name}/{path.name}")
        say("They are used again when the settings come back; medfocus cache prune removes them.")


def _count_runs(context: Context, dataset: Dataset, stores: Stores) -> list[tuple[str, int, int]]:
    """(label, runs with a result, runs) of each line of the table."""
    config = context.probe
    plans = plan(context, dataset, stores, split_of(dataset, config), config)
    done = fitted_keys(context.folder / "results")
    return [(one.label, len(one.runs) - len(one.missing(done)), len(one.runs)) for one in plans]
