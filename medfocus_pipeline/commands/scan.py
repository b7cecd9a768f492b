"""``medfocus scan``: bring the manifest up to date, and say what is in it."""

from collections import Counter

from medfocus_pipeline.commands.progress import bar, say, say_problems
from medfocus_pipeline.datasets.readers import one_of_several
from medfocus_pipeline.datasets.tree import other_kinds
from medfocus_pipeline.errors import MedFocusError
from medfocus_pipeline.project import dataset as datasets
from medfocus_pipeline.project.dataset import MANIFEST, Dataset
from medfocus_pipeline.project.plans import split_of
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import Context


def open_dataset(context: Context, *, images_needed: bool = True, rescan: bool = True) -> Dataset:
    """`project.dataset.open_dataset` with a progress bar."""
    return datasets.open_dataset(context, images_needed=images_needed, rescan=rescan, progress=bar)


def open_project(context: Context) -> Project:
    """The project of a command that computes: what it was asked is remembered first.

    So a killed first run is not forgotten.
    """
    if context.data.exists():
        context.remember()
    return Project.of(context, images_needed=True, progress=bar)


def run(context: Context, *, all_problems: bool, strict: bool) -> int:
    """Bring the manifest up to date and say what is in it.

    Returns:
        1 if `strict` and some image cannot be used, else 0.
    """
    dataset = open_project(context).dataset
    context.remember(card=dataset.card_path)
    manifest = dataset.manifest
    say(f"{context.dataset}: {dataset.card.title}")
    found = f"{len(manifest.usable):,} usable images, {len(dataset.files):,} distinct"
    say(f"{found}, in {context.data}")
    counts: dict[tuple[str, str], int] = {}
    splits, names = manifest.strings("split"), manifest.strings("class_name")
    for row in manifest.usable:
        place = (splits[row] or "no official split", names[row])
        counts[place] = counts.get(place, 0) + 1
    for (split, name), count in sorted(counts.items()):
        say(f"  {split}  {name}: {count:,}")
    _say_several(dataset)
    _say_no_probe(context, dataset)
    _say_other_kinds(context)
    say_problems(dataset.problems, shown=None if all_problems else 5)
    say(f"manifest: {context.folder / MANIFEST}")
    return int(strict and bool(dataset.problems))


def _say_no_probe(context: Context, dataset: Dataset) -> None:
    """Whether stage two will refuse the data set, before stage one has taken its time."""
    try:
        split_of(dataset, context.probe)
    except MedFocusError as error:
        say(f"make probe will refuse this: {error}")


def _say_several(dataset: Dataset) -> None:
    """What is seen of files with several pictures: volumes, frames, pages."""
    manifest, modes = dataset.manifest, dataset.manifest.strings("mode")
    if dataset.card.volumes == "refuse":
        return  # each is a problem of its own
    every = dataset.card.volumes == "all"
    seen = [found for row in manifest.usable if (found := one_of_several(modes[row]))]
    files = Counter(kind for kind, place, _ in seen if not every or place == 1)
    for kind, count in sorted(files.items()):
        pictures = sum(n for one, place, n in seen if one == kind and (not every or place == 1))
        which = "first" if kind == "page" else "middle"
        only = f"of each the {which} one alone is seen (all: volumes: all in a card)"
        what = "each is an image, those of a file one group" if every else only
        say(f"{count:,} files hold several pictures, {pictures:,} {kind}s: {what}")


def _say_other_kinds(context: Context) -> None:
    """What lies among the images and is none."""
    if not context.data.is_dir():
        return
    kinds = other_kinds(context.data)
    if kinds:
        counted = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())
        say(f"{kinds.total():,} files are of kinds that are not read: {counted}")
