"""From a folder or a CSV to the manifest."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from medfocus_pipeline.datasets.card import Card, card_folders, check_name, known_cards
from medfocus_pipeline.datasets.changes import updated
from medfocus_pipeline.datasets.contents import MASK, open_all
from medfocus_pipeline.datasets.found import Folder, ImageFile
from medfocus_pipeline.datasets.inputs import digest_of, is_settled
from medfocus_pipeline.datasets.layout import (
    Entry,
    expected_layout,
    guess_card,
    is_left_out,
    place_files,
)
from medfocus_pipeline.datasets.listing import read_listing
from medfocus_pipeline.datasets.manifest import Manifest, build
from medfocus_pipeline.datasets.names import masks_of
from medfocus_pipeline.datasets.readers import EXTENSIONS
from medfocus_pipeline.datasets.reading import AS_FOUND, Reading
from medfocus_pipeline.datasets.rows import (
    folders_below,
    pictures_of,
    row_of,
    validated,
    without_drawn_masks,
)
from medfocus_pipeline.datasets.tree import images_of, walk
from medfocus_pipeline.errors import ConfigError, DataError


def data_root(source: Path, images: Path | None = None) -> Path:
    """The folder that manifest paths are relative to: `images`, a CSV's own, or the folder itself.

    Raises:
        ConfigError: `images` is no folder, or the source is none that lists images.
    """
    if images is None:
        return source if source.is_dir() else source.parent
    if source.is_dir() or not images.is_dir():
        what = f"{source} is a folder" if source.is_dir() else f"{images} is no folder"
        raise ConfigError(
            f"{what}: --images names the folder that the paths of a CSV are relative to, as in "
            "--data labels.csv --images scans"
        )
    return images


def scan(
    source: Path,
    *,
    name: str,
    card: Card | None = None,
    reading: Reading = AS_FOUND,
    previous: Manifest | None = None,
    on_file: Callable[[int, int], None] | None = None,
    workers: int = 2,
) -> Manifest:
    """Find, hash and decode every image of a data set.

    Args:
        source: folder with the images, or a CSV with the columns path, label and optionally
            split and group.
        name: of the data set.
        card: its card; None takes class names from the folders or labels.
        reading: what the user says beside the card.
        previous: an earlier manifest; a file of unchanged size and mtime is not opened again.
        on_file: told (done, total) of the files that are opened.
        workers: threads that open them.

    Returns:
        One row for every image file, sorted by path, also for those that cannot be used;
        `previous` itself if nothing has changed. Of a folder whose files ``stat`` as they did,
        nothing else is asked.

    Raises:
        DataError: no such source, no image in it, or none where the card looks for them.
        ConfigError: the name or what `reading` says is not usable.
    """
    check_name(name)
    if not source.exists():
        known = ", ".join(known_cards(card_folders()))
        raise DataError(
            f"The data of {name!r} is not at {source}. Put its images there, or say where they "
            f"are: DATA=path/to/images. Data sets with a card: {known}."
        )
    root = data_root(source, reading.images)
    listed, inputs = _listing(source, card), ""
    if listed is None:
        keep = bool(card and (card.annotation or card.keep_masks))
        keep = keep if reading.keep_masks is None else reading.keep_masks
        where = str(source.resolve())
        folders = walk(source)
        inputs = digest_of(folders, name=name, source=where, card=card, reading=reading)
        if previous and previous.inputs == inputs and is_settled(previous):
            return previous
        if previous and (
            found := updated(
                *(previous, source, _again(source, folders)),
                inputs=inputs,
                card=card,
                keep_masks=keep,
                on_file=on_file,
                workers=workers,
            )
        ):
            return found
        files = images_of(_again(source, folders))
        entries, used = _list_folder(source, files, card, keep_masks=keep)
    else:
        keep = True  # it lists what is an image
        columns = {**(card.columns if card else {}), **reading.columns}
        entries, used = read_listing(listed, card, root=root, columns=columns)
    entries = [entry for entry in entries if not is_left_out(entry.file.path, used)]
    entries = [validated(entry, used) for entry in entries]
    files = [entry.file for entry in entries]
    where = str(source.resolve()) + (f" with {root.resolve()}" if reading.images else "")
    if previous and previous.source != where:
        previous = None  # equal paths, sizes and times elsewhere are other files
    every = used.volumes == "all"
    opened = open_all(root, files, previous, on_file, workers, every=every)
    entries = entries if keep else without_drawn_masks(entries, opened)
    entries, contents = pictures_of(entries, opened, used)
    classes = [item.name for item in used.classes]
    rows = [row_of(*pair, classes) for pair in zip(entries, contents, strict=True)]
    from_card = card is not None
    if previous and previous.says(
        rows, name=name, classes=classes, from_card=from_card, source=where
    ):
        return previous.with_inputs(inputs)
    return build(rows, name=name, classes=classes, from_card=from_card, source=where).with_inputs(
        inputs
    )


def _again(source: Path, folders: Iterable[Folder]) -> Iterable[Folder]:
    """The folders of a source that was walked; what was listed is not listed again."""
    return folders if isinstance(folders, list) else walk(source)


def _listing(source: Path, card: Card | None) -> Path | None:
    """The CSV that lists the images: the source itself, or the card's in the folder."""
    if not source.is_dir():
        return source
    file = source / card.listing.file if card and card.listing else None
    return file if file and file.is_file() else None


def _list_folder(
    source: Path, files: list[ImageFile], card: Card | None, *, keep_masks: bool
) -> tuple[list[Entry], Card]:
    """The image files of a folder, with the card that gave them their places."""
    if not files:
        raise DataError(
            f"No image in {source}. Expected files that end in {', '.join(sorted(EXTENSIONS))}; "
            "or give a CSV with the columns path and label: DATA=images.csv"
        )
    if not keep_masks:
        files = _without_masks(files)
    paths = [file.path for file in files if not file.refused.startswith(MASK)]
    used = card or guess_card(paths, source.name)
    places = place_files([file.path for file in files], used)
    if not any(places):
        raise DataError(
            f"No image in {source} lies where the card {used.title!r} expects it: "
            f"{expected_layout(used)}. Found {paths[0]!r}. Point DATA at the folder that holds "
            "these, or describe yours in a card (data/README.md)."
        )
    return [
        Entry(file, place, used.patient_of(file.path), folders_below(file.path, used))
        for file, place in zip(files, places, strict=True)
    ], used


def _without_masks(files: Sequence[ImageFile]) -> list[ImageFile]:
    """The files, those refused that are called like another one's annotation mask."""
    masks = masks_of([file.path for file in files])
    return [
        replace(
            file, refused=f"{MASK} of {masks[file.path]!r} by its name (--keep-masks: an image)"
        )
        if file.path in masks
        else file
        for file in files
    ]
