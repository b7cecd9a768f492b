"""What is known of files becomes rows of the manifest."""

from collections.abc import Sequence
from dataclasses import replace

from medfocus_pipeline.datasets.card import Card
from medfocus_pipeline.datasets.contents import MASK, OUTSIDE, SEVERAL, TWO_VALUES, Content
from medfocus_pipeline.datasets.layout import Entry
from medfocus_pipeline.datasets.listing import NOT_VALIDATED
from medfocus_pipeline.datasets.manifest_columns import VALIDATION
from medfocus_pipeline.datasets.names import fold, patient_folders, stem_of
from medfocus_pipeline.datasets.readers import one_of_several


def validated(entry: Entry, card: Card) -> Entry:
    """An image of a validation split stays there or trains, if the card says so, or is left out."""
    if entry.place is None or entry.place.split != VALIDATION or card.use_validation == "keep":
        return entry
    if card.use_validation == "train":
        return replace(entry, place=entry.place._replace(split="train"))
    place = entry.place._replace(split="")
    return replace(entry, place=place, file=replace(entry.file, refused=NOT_VALIDATED))


def without_drawn_masks(
    entries: Sequence[Entry], contents: Sequence[Sequence[Content]]
) -> list[Entry]:
    """The entries, those refused that look like the annotation mask of another one.

    A mask has at most two values, and its name but for folder and ending, its size, its class and
    its split are those of a picture that has more.
    """
    pictures: dict[tuple[object, ...], str] = {}
    drawn: dict[int, tuple[object, ...]] = {}
    for n, (entry, [content, *_]) in enumerate(zip(entries, contents, strict=True)):
        stem = stem_of(entry.file.path)
        known: tuple[object, ...] = (stem, entry.place, content.width, content.height)
        if content.mode.endswith(TWO_VALUES):
            drawn[n] = known
        elif content.width and entry.place and not entry.file.refused:
            pictures[known] = entry.file.path
    marked = list(entries)
    for n, of in drawn.items():
        if of in pictures and not entries[n].file.refused:
            why = f"{MASK} of {pictures[of]!r} by its content (--keep-masks: an image)"
            marked[n] = replace(entries[n], file=replace(entries[n].file, refused=why))
    return marked


def pictures_of(
    entries: Sequence[Entry], contents: Sequence[Sequence[Content]], card: Card
) -> tuple[list[Entry], list[Content]]:
    """A row for every picture of every file, those of one file in one group."""
    rows: list[Entry] = []
    found: list[Content] = []
    file_of: list[str] = []
    for entry, pictures in zip(entries, contents, strict=True):
        path, several = entry.file.path, len(pictures) > 1
        for number, content in enumerate(pictures):
            own = replace(entry.file, path=f"{path}/{number:04d}") if several else entry.file
            rows.append(replace(entry, file=own))
            found.append(content)
            file_of.append(path if several else "")
    rows = [
        replace(entry, group=entry.group or path)
        for entry, path in zip(_grouped(rows, found), file_of, strict=True)
    ]
    return rows, without_several(found, card)


def without_several(contents: Sequence[Content], card: Card) -> list[Content]:
    """The contents, those of files with several pictures refused where the card wants none."""
    return [
        replace(content, problem=SEVERAL)
        if card.volumes == "refuse" and one_of_several(content.mode)
        else content
        for content in contents
    ]


def _grouped(entries: Sequence[Entry], contents: Sequence[Content]) -> list[Entry]:
    """Entries with the patient of the header, else of the folders, where nothing else says it.

    A header's patient that all images share tells none apart and is not used.
    """
    if any(entry.group for entry in entries):
        return list(entries)
    groups = [content.patient for content in contents]
    if len(set(groups) - {""}) < 2:
        groups = [""] * len(entries)
        placed = [n for n, entry in enumerate(entries) if entry.place and not entry.file.refused]
        below = []
        for n in placed:
            entry = entries[n]
            index = -1 if entry.place is None else entry.place.class_index
            below.append((index, entry.below))
        for n, group in zip(placed, patient_folders(below), strict=True):
            groups[n] = group
    return [replace(entry, group=group) for entry, group in zip(entries, groups, strict=True)]


def folders_below(path: str, card: Card) -> tuple[str, ...]:
    """The folders between an image and the folder of its class."""
    parts = path.split("/")[:-1]
    first = next((n for n, part in enumerate(parts) if fold(part) in card.class_index), len(parts))
    return tuple(parts[first + 1 :])


def row_of(
    entry: Entry, content: Content, classes: Sequence[str], group: str | None = None
) -> tuple[object, ...]:
    """One row, in the order of `ROW`.

    Args:
        group: instead of the entry's.
    """
    split, index = entry.place or ("", -1)
    return (
        content.image_id,
        entry.file.path,
        split,
        index,
        classes[index] if index >= 0 else "",
        entry.group if group is None else group,
        entry.domain,
        content.patient,
        content.width,
        content.height,
        content.mode,
        entry.file.bytes,
        entry.file.mtime_ns,
        entry.file.refused or content.problem or ("" if entry.place else OUTSIDE),
    )
