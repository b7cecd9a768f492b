"""``medfocus phantom``: draw a data set of phantoms."""

import time
from collections import Counter
from pathlib import Path

from medfocus_pipeline.commands.output import bar, say, say_filled
from medfocus_pipeline.datasets.phantoms.folder import PhantomSet, clear
from medfocus_pipeline.datasets.phantoms.phantom import MIXED, PICTURES
from medfocus_pipeline.datasets.phantoms.writer import Plan, plan, prepare, write
from medfocus_pipeline.project.filling import Filled
from medfocus_pipeline.stores.lock import writing

_SPLITS = {
    "train": "to train",
    "validation": "to choose on",
    "test": "to test",
    "": "without an official split",
}


def name_of(kind: str) -> str:
    """Name of the data set of a kind."""
    return f"phantom-{kind}"


def default_folder(kind: str) -> Path:
    """Where the phantoms of a kind are if nobody says."""
    return Path("data", name_of(kind))


def folder_of(phantoms: PhantomSet, data: Path | None) -> Path:
    """Where a set goes; one of a machine has the machine's name behind it."""
    folder = data or default_folder(phantoms.kind)
    machine = phantoms.machine
    return folder.with_name(f"{folder.name}-{machine}") if machine else folder


def run(
    phantoms: PhantomSet, folder: Path, *, train: int, test: int, workers: int, force: bool
) -> None:
    """Draw the phantoms of a set that are missing, and say what is there.

    Args:
        train: number of training images; without an official split, ``train + test`` in all.
        workers: processes that draw.
        force: first remove what was drawn into the folder, with whatever settings.
    """
    if force:
        clear(folder)
    todo = plan(phantoms, folder, train=train, test=test)
    if todo.missing:
        prepare(todo)
        with writing(folder):
            # Again: another run may have drawn some before it let go of the lock.
            todo = plan(phantoms, folder, train=train, test=test)
            _draw(todo, workers=workers)
    else:
        say(f"phantom: all {len(todo.wanted):,} images are drawn, nothing to do")
    _say_contents(todo)


def say_next(kind: str, folder: Path) -> None:
    """What to type with a set of phantoms."""
    if kind == PICTURES:
        return
    place = "" if folder == default_folder(kind) else f' DATA="{folder}"'
    command = "gate" if kind == MIXED else "masks"
    say(f"next: make {command} DATASET={name_of(kind)}{place} PROFILE=offline")


def _draw(todo: Plan, *, workers: int) -> None:
    what = f"drawing {folder_of(todo.phantoms, None).name}"
    started = time.monotonic()
    with bar(what, len(todo.missing)) as advance:
        write(todo, workers=workers, on_images=advance)
    say_filled(Filled(what, len(todo.missing), time.monotonic() - started, problems={}))


def _say_contents(todo: Plan) -> None:
    phantoms = todo.phantoms
    splits = Counter(place.split for place in todo.wanted)
    counts = ", ".join(f"{count:,} {_SPLITS[split]}" for split, count in splits.items())
    say(f"{len(todo.wanted):,} images ({counts}) in {todo.folder}, seed {phantoms.seed}")
    if todo.more:
        say(f"{todo.more:,} more are there from an earlier run, and stay; --force removes them")
    say("Phantoms are drawings: nothing in them is clinical.")
