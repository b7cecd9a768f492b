"""From a folder or a CSV to the manifest."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from medfocus_pipeline.datasets.card import Card, card_folders, check_name, known_cards
from medfocus_pipeline.datasets.layout import (
    Entry,
    expected_layout,
    guess_card,
    is_left_out,
    place_files,
)
from medfocus_pipeline.datasets.listing import read_listing
from medfocus_pipeline.datasets.manifest import Manifest, build
from medfocus_pipeline.datasets.names import fold, masks_of, patient_folders
from medfocus_pipeline.datasets.readers import EXTENSIONS, Decoded, decode, may_pass, steady
from medfocus_pipeline.datasets.tree import ImageFile, find_images
from medfocus_pipeline.errors import DataError, ImageError
from medfocus_pipeline.files import sha256

OUTSIDE = "is outside the card's layout"
"""Problem of a readable image that lies in no folder of a class."""


MASK = "is taken for the annotation mask"
"""Beginning of the problem of a file that is called like another image's mask."""


@dataclass(frozen=True, slots=True)
class _Content:
    """What only opening a file can tell."""

    image_id: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    patient: str = ""
    problem: str = ""


def data_root(source: Path) -> Path:
    """The folder that manifest paths are relative to: a CSV's own, or the folder itself."""
    return source if source.is_dir() else source.parent


def scan(
    source: Path,
    *,
    name: str,
    card: Card | None = None,
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
        previous: an earlier manifest; a file of unchanged size and mtime is not opened again.
        on_file: told (done, total) of the files that are opened.
        workers: threads that open them.

    Returns:
        One row for every image file, sorted by path, also for those that cannot be used;
        `previous` itself if nothing has changed.

    Raises:
        DataError: no such source, no image in it, or none where the card looks for them.
        ConfigError: the name is not usable.
    """
    check_name(name)
    if not source.exists():
        known = ", ".join(known_cards(card_folders()))
        raise DataError(
            f"The data of {name!r} is not at {source}. Put its images there, or say where they "
            f"are: DATA=path/to/images. Data sets with a card: {known}."
        )
    listed = _listing(source, card)
    entries, used = read_listing(listed, card) if listed else _list_folder(source, card)
    entries = [entry for entry in entries if not is_left_out(entry.file.path, used)]
    files = [entry.file for entry in entries]
    where = str(source.resolve())
    if previous and previous.source != where:
        previous = None  # equal paths, sizes and times elsewhere are other files
    contents = _open_all(data_root(source), files, previous, on_file, workers)
    entries = _grouped(entries, contents)
    classes = [item.name for item in used.classes]
    rows = [_row(*pair, classes) for pair in zip(entries, contents, strict=True)]
    from_card = card is not None
    if previous and previous.says(
        rows, name=name, classes=classes, from_card=from_card, source=where
    ):
        return previous
    return build(rows, name=name, classes=classes, from_card=from_card, source=where)


def _listing(source: Path, card: Card | None) -> Path | None:
    """The CSV that lists the images: the source itself, or the card's in the folder."""
    if not source.is_dir():
        return source
    file = source / card.listing.file if card and card.listing else None
    return file if file and file.is_file() else None


def _list_folder(source: Path, card: Card | None) -> tuple[list[Entry], Card]:
    """The image files of a folder, with the card that gave them their places."""
    files = find_images(source)
    if not files:
        raise DataError(
            f"No image in {source}. Expected files that end in {', '.join(sorted(EXTENSIONS))}; "
            "or give a CSV with the columns path and label: DATA=images.csv"
        )
    if card is None or not (card.annotation or card.keep_masks):
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
        Entry(file, place, used.patient_of(file.path), _folders_below(file.path, used))
        for file, place in zip(files, places, strict=True)
    ], used


def _without_masks(files: Sequence[ImageFile]) -> list[ImageFile]:
    """The files, those refused that are called like another one's annotation mask."""
    masks = masks_of([file.path for file in files])
    return [
        replace(file, refused=f"{MASK} of {masks[file.path]!r} by its name")
        if file.path in masks
        else file
        for file in files
    ]


def _grouped(entries: Sequence[Entry], contents: Sequence[_Content]) -> list[Entry]:
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


def _folders_below(path: str, card: Card) -> tuple[str, ...]:
    """The folders between an image and the folder of its class."""
    parts = path.split("/")[:-1]
    first = next((n for n, part in enumerate(parts) if fold(part) in card.class_index), len(parts))
    return tuple(parts[first + 1 :])


def _open_all(
    root: Path,
    files: Sequence[ImageFile],
    previous: Manifest | None,
    on_file: Callable[[int, int], None] | None,
    workers: int,
) -> list[_Content]:
    """What is in each file; an unchanged one is not opened again, a refused one never."""
    known = {} if previous is None else _contents(previous)
    contents = [
        _Content() if file.refused else known.get((file.path, file.bytes, file.mtime_ns))
        for file in files
    ]
    todo = [row for row, content in enumerate(contents) if content is None]
    pool = ThreadPoolExecutor(workers, thread_name_prefix="scan")
    try:
        opened = pool.map(lambda row: _open(root / files[row].path), todo)
        for done, (row, content) in enumerate(zip(todo, opened, strict=True), start=1):
            contents[row] = content
            if on_file:
                on_file(done, len(todo))
    finally:
        pool.shutdown(cancel_futures=True)
    return [content or _Content() for content in contents]


def _contents(manifest: Manifest) -> dict[tuple[str, int, int], _Content]:
    """Path, size and mtime -> what an earlier scan saw in the file."""
    names = (
        "path",
        "bytes",
        "mtime_ns",
        "image_id",
        "width",
        "height",
        "mode",
        "patient",
        "problem",
    )
    columns = [manifest.table[name].to_pylist() for name in names]
    return {
        (path, size, mtime): _Content(
            image_id, width, height, mode, patient, "" if problem == OUTSIDE else problem
        )
        for path, size, mtime, image_id, width, height, mode, patient, problem in zip(
            *columns, strict=True
        )
        # Without an id the file was not even opened.
        if image_id and not may_pass(problem)
    }


def _open(path: Path) -> _Content:
    """Hash and decode one file."""
    try:
        with steady(path):
            image_id, found = sha256(path), _decoded(path)
    except ImageError as error:
        return _Content(problem=str(error))
    except OSError as error:
        return _Content(problem=f"cannot be read: {error.strerror}")
    if isinstance(found, ImageError):
        return _Content(image_id, problem=str(found))
    height, width, _ = found.pixels.shape
    return _Content(image_id, width, height, found.mode, found.patient)


def _decoded(path: Path) -> Decoded | ImageError:
    try:
        return decode(path)
    except ImageError as error:
        return error


def _row(entry: Entry, content: _Content, classes: Sequence[str]) -> tuple[object, ...]:
    """One row, in the order of `COLUMNS`."""
    split, index = entry.place or ("", -1)
    return (
        content.image_id,
        entry.file.path,
        split,
        index,
        classes[index] if index >= 0 else "",
        entry.group,
        entry.domain,
        content.patient,
        content.width,
        content.height,
        content.mode,
        entry.file.bytes,
        entry.file.mtime_ns,
        entry.file.refused or content.problem or ("" if entry.place else OUTSIDE),
    )
