"""``medfocus status``: what is cached, stale or missing, and what each command would do."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from medfocus_pipeline.commands.output import bar, human, say, say_columns, say_json, say_problems
from medfocus_pipeline.errors import MedFocusError
from medfocus_pipeline.pictures import STAGE
from medfocus_pipeline.project.fits import fitted_keys
from medfocus_pipeline.project.located import Located, opened_of
from medfocus_pipeline.project.picture_store import pictures_in_use
from medfocus_pipeline.project.plans import plan
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.project.stores import Stores
from medfocus_pipeline.stores import catalog


@dataclass(frozen=True, slots=True)
class State:
    """How far one stage is.

    Attributes:
        stage: scan, masks, embed or probe.
        what: is computed, readable.
        done: how many.
        planned: of how many.
        unit: that they are counted in.
        next: what the stage's command would do.
    """

    stage: str
    what: str
    done: int
    planned: int
    unit: str
    next: str


def run(context: Context, *, as_json: bool = False) -> None:
    """Print the state of every stage; it computes nothing and writes the manifest at most."""
    project = Project.of(context, progress=bar)
    stores = used_stores(project)
    states, refused = _states(project, stores)
    if as_json:
        stale = [str(path) for path in _stale(context, stores)]
        facts = {"dataset": context.dataset, "profile": context.profile_name, "stale": stale}
        problem = str(refused) if refused else None
        say_json({**facts, "states": [asdict(one) for one in states], "problem": problem})
        return
    rows = [
        (one.stage, one.what, f"{one.done:,} of {one.planned:,} {one.unit}", one.next)
        for one in states
    ]
    say_columns(("stage", "what", "done", "next"), rows)
    if refused:
        say(f"probe: {refused}")
    _say_stale(context, stores)
    say_problems(project.dataset.problems)


def _states(project: Project, stores: Stores) -> tuple[list[State], MedFocusError | None]:
    """Of every stage, and why `probe` could not be asked."""
    dataset = project.dataset
    usable, files = len(dataset.manifest.usable), len(dataset.manifest)
    states = [State("scan", dataset.card.title, usable, files, "files usable", "nothing")]
    refused, counts = None, list[tuple[str, int, int]]()
    with ThreadPoolExecutor() as pool:  # to ask a store is to read and to hash
        asked = [
            pool.submit(_of_store, "masks" if place is stores.masks else "embed", place)
            for place in stores.all()
        ]
        try:
            counts = _count_runs(project, stores)
        except MedFocusError as error:
            refused = error
        states += [one.result() for one in asked]
    ready = all(one.next == "nothing" for one in states)
    for label, done, planned in counts:
        todo = "nothing" if done == planned else f"fit {planned - done:,} runs"
        if done < planned and not ready:
            todo = "the rows above first"
        states.append(State("probe", label, done, planned, "runs", todo))
    return states, refused


def used_stores(project: Project) -> Stores:
    """The stores of the settings used last, or else of the profile."""
    stores = project.embeddings().locate()
    return replace(stores, masks=stores.masks or project.masks.locate())


def _of_store(stage: str, place: Located) -> State:
    total, missing = len(place.ids), len(place.missing())
    todo = f"compute {missing:,} rows" if missing else "nothing"
    return State(stage, place.label, total - missing, total, "rows", todo)


def _say_stale(context: Context, stores: Stores) -> None:
    stale = _stale(context, stores)
    if stale:
        size = human(sum(catalog.size_of(path) for path in stale))
        say(f"{len(stale)} stores are of other settings or weights ({size}):")
        for path in stale:
            say(f"  {path.parent.name}/{path.name}")
        say("They are used again when the settings come back; medfocus cache prune removes them.")


def _stale(context: Context, stores: Stores) -> list[Path]:
    """Folders of stores that the settings do not use."""
    known = {store.path for store in opened_of(stores.all())}
    used = pictures_in_use(context.folder / "results")
    known |= {
        store.path for store in catalog.open_stores(context.folder, STAGE) if store.key in used
    }
    return [path for path in catalog.store_folders(context.folder) if path not in known]


def _count_runs(project: Project, stores: Stores) -> list[tuple[str, int, int]]:
    """(label, runs with a result, runs) of each line of the table."""
    context = project.context
    plans = plan(context, project.dataset, stores, project.split(), context.probe)
    done = fitted_keys(project.results_folder)
    return [(one.label, len(one.runs) - len(one.missing(done)), len(one.runs)) for one in plans]
