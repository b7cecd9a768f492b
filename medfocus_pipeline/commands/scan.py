"""``medfocus scan``: bring the manifest up to date, and say what is in it."""

import shlex
from collections import Counter
from collections.abc import Mapping

from medfocus_pipeline.columns import in_rows, is_empty, kept, row_array
from medfocus_pipeline.commands.output import bar, say, say_json, say_problems
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.readers import one_of_several
from medfocus_pipeline.datasets.tree import other_kinds
from medfocus_pipeline.errors import MedFocusError, counted
from medfocus_pipeline.project import dataset as datasets
from medfocus_pipeline.project.dataset import MANIFEST, Dataset, split_of
from medfocus_pipeline.project.project import Project
from medfocus_pipeline.project.settings import Context
from medfocus_pipeline.types import JSON

_SHOWN = 3


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


def run(context: Context, *, all_problems: bool, strict: bool, as_json: bool = False) -> int:
    """Bring the manifest up to date and say what is in it.

    Returns:
        1 if `strict` and some image cannot be used, else 0.
    """
    dataset = open_project(context).dataset
    context.remember(card=dataset.card_path)
    manifest = dataset.manifest
    say(f"{context.dataset}: {dataset.card.title}")
    found = f"{counted(len(manifest.usable), 'usable image')}, {len(dataset.files):,} distinct"
    say(f"{found}, in {context.data}")
    counts = _counts(manifest)
    for (split, name), count in counts.items():
        say(f"  {split or 'no official split'}  {name}: {count:,}")
    _say_patients(dataset)
    _say_several(dataset)
    _say_gate(context, dataset)
    _say_no_probe(context, dataset)
    _say_other_kinds(context)
    say_problems(dataset.problems, shown=None if all_problems else 5)
    say(f"manifest: {context.folder / MANIFEST}")
    if as_json:
        say_json(_facts(context, dataset, counts))
    return int(strict and bool(dataset.problems))


def _counts(manifest: Manifest) -> dict[tuple[str, str], int]:
    """(official split or nothing, class) -> usable images."""
    usable = row_array(manifest.usable)
    splits, names = (manifest.column(name).take(usable) for name in ("split", "class_name"))
    return dict(sorted(Counter(in_rows(splits, names)).items()))


def _facts(context: Context, dataset: Dataset, counts: Mapping[tuple[str, str], int]) -> JSON:
    return {
        "dataset": context.dataset,
        "title": dataset.card.title,
        "data": str(context.data),
        "manifest": str(context.folder / MANIFEST),
        "usable": len(dataset.manifest.usable),
        "distinct": len(dataset.files),
        "images": [
            {"split": split or None, "class": name, "count": count}
            for (split, name), count in counts.items()
        ],
        "left_out": dict(dataset.problems),
        "gate": {
            "looked_at": len(dataset.manifest.gate_scores),
            "not_medical": dataset.manifest.refused,
            "other_modality": dataset.other_modality,
        }
        if dataset.manifest.gate
        else None,
    }


def _say_gate(context: Context, dataset: Dataset) -> None:
    """What the gate found, and how to overrule it."""
    manifest = dataset.manifest
    if not manifest.gate:
        return
    found, problems = manifest.refused, dataset.problems
    left_out = [path for path in found if path in problems]
    kept = f", {len(found) - len(left_out):,} of them kept" if len(found) > len(left_out) else ""
    say(
        f"gate: {len(manifest.gate_scores):,} images looked at, {len(found):,} look like no "
        f"medical image{kept}"
    )
    if left_out:
        name = left_out[0]
        say(f"  an image all the same: medfocus scan {context.dataset} --keep {shlex.quote(name)}")
    others = dataset.other_modality
    if others:
        counts = ", ".join(f"{name} {n:,}" for name, n in Counter(others.values()).most_common())
        shown = ", ".join(map(repr, list(others)[:_SHOWN]))
        say(
            f"  {len(others):,} images look like another modality than the card's "
            f"({dataset.card.modality}): {counts}; the first: {shown}"
        )


def _say_no_probe(context: Context, dataset: Dataset) -> None:
    """Whether stage two will refuse the data set, before stage one has taken its time."""
    try:
        split_of(dataset, context.probe)
    except MedFocusError as error:
        say(f"make probe will refuse this: {error}")


def _say_patients(dataset: Dataset) -> None:
    """How many patients are known, and from where."""
    manifest, usable = dataset.manifest, dataset.manifest.usable
    known = usable[~is_empty(manifest.column("group"))[usable]]
    if not len(known):
        return
    told = "the card or the CSV"
    groups, headers = (kept(manifest.column(name), known) for name in ("group", "patient"))
    if groups.equals(headers):
        told = "the headers of the files"
    elif all(
        f"/{group}/" in f"/{path}"
        for group, path in in_rows(groups, kept(manifest.column("path"), known))
    ):
        told = "the folders or files that they lie in"
    count, rest = len(groups.unique()), len(usable) - len(known)
    more = f"; of {counted(rest, 'image')} it is not known" if rest else ""
    say(f"{counted(count, 'patient')}, by {told}: those of one stay on one side of the split{more}")


def _say_several(dataset: Dataset) -> None:
    """What is seen of files with several pictures: volumes, frames, pages."""
    manifest = dataset.manifest
    if dataset.card.volumes == "refuse":
        return  # each is a problem of its own
    every = dataset.card.volumes == "all"
    modes = manifest.column("mode").take(row_array(manifest.usable)).value_counts().to_pylist()
    files, shown = Counter[str](), Counter[str]()
    for one in modes:
        kind, place, count = one_of_several(one["values"]) or ("", 0, 0)
        if kind and (not every or place == 1):
            files[kind] += one["counts"]
            shown[kind] += one["counts"] * count
    for kind, count in sorted(files.items()):
        pictures = shown[kind]
        which = "first" if kind == "page" else "middle"
        only = f"of each the {which} one alone is seen (all: volumes: all in a card)"
        what = "each is an image, those of a file one group" if every else only
        held = counted(count, "file holds", "files hold")
        say(f"{held} several pictures, {counted(pictures, kind)}: {what}")


def _say_other_kinds(context: Context) -> None:
    """What lies among the images and is none."""
    if not context.data.is_dir():
        return
    kinds = other_kinds(context.data)
    if kinds:
        listed = ", ".join(f"{kind} {count:,}" for kind, count in kinds.most_common())
        files = counted(kinds.total(), "file is", "files are")
        say(f"{files} of kinds that are not read: {listed}")
