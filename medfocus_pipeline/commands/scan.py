"""``medfocus scan``: bring the manifest up to date, and say what is in it."""

from medfocus_pipeline.commands.progress import bar, say, say_problems
from medfocus_pipeline.project import dataset as datasets
from medfocus_pipeline.project.dataset import MANIFEST, Dataset
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
    say_problems(dataset.problems, shown=None if all_problems else 5)
    say(f"manifest: {context.folder / MANIFEST}")
    return int(strict and bool(dataset.problems))
