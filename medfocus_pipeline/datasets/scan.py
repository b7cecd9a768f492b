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
from medfocus_pipeline.datasets.names import fold, masks_of, patient_folders, without_ending
from medfocus_pipeline.datasets.pixels import at_most_two_values
from medfocus_pipeline.datasets.readers import (
    EXTENSIONS,
    Decoded,
    decode,
    may_pass,
    one_of_several,
    picture_id,
    steady,
)
from medfocus_pipeline.datasets.reading import AS_FOUND, Reading
from medfocus_pipeline.datasets.tree import ImageFile, find_images
from medfocus_pipeline.errors import ConfigError, DataError, ImageError
from medfocus_pipeline.files import sha256

OUTSIDE = "is outside the card's layout"
"""Problem of a readable image that lies in no folder of a class."""


SEVERAL = "holds several pictures, and the card says volumes: refuse"
"""Problem of a volume, of several frames or pages, where the card wants none."""

MAX_PICTURES = 4096
"""Of one file, where all are asked for: more are taken for a damaged or hostile header."""

TOO_MANY = f"holds more than {MAX_PICTURES:,} pictures"

MASK = "is taken for the annotation mask"
"""Beginning of the problem of a file that is named, or looks, like another image's mask."""

_TWO_VALUES = ", two values"
"""In the mode of a picture that may be a mask."""


@dataclass(frozen=True, slots=True)
class _Content:
    """What only opening a file can tell."""

    image_id: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    patient: str = ""
    problem: str = ""


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
        `previous` itself if nothing has changed.

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
    if source.is_dir():
        keep = bool(card and (card.annotation or card.keep_masks))
        keep = keep if reading.keep_masks is None else reading.keep_masks
        entries, used = _list_folder(source, card, keep_masks=keep)
    else:
        keep = True  # it lists what is an image
        columns = {**(card.columns if card else {}), **reading.columns}
        entries, used = read_listing(source, card, root=root, columns=columns)
    entries = [entry for entry in entries if not is_left_out(entry.file.path, used)]
    files = [entry.file for entry in entries]
    where = str(source.resolve()) + (f" with {root.resolve()}" if reading.images else "")
    if previous and previous.source != where:
        previous = None  # equal paths, sizes and times elsewhere are other files
    every = used.volumes == "all"
    opened = _open_all(root, files, previous, on_file, workers, every=every)
    entries = entries if keep else _without_drawn_masks(entries, opened)
    entries, contents = _pictures(entries, opened, used)
    classes = [item.name for item in used.classes]
    rows = [_row(*pair, classes) for pair in zip(entries, contents, strict=True)]
    from_card = card is not None
    if previous and previous.says(
        rows, name=name, classes=classes, from_card=from_card, source=where
    ):
        return previous
    return build(rows, name=name, classes=classes, from_card=from_card, source=where)


def _list_folder(source: Path, card: Card | None, *, keep_masks: bool) -> tuple[list[Entry], Card]:
    """The image files of a folder, with the card that gave them their places."""
    files = find_images(source)
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
        Entry(file, place, used.patient_of(file.path), _folders_below(file.path, used))
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


def _without_drawn_masks(
    entries: Sequence[Entry], contents: Sequence[Sequence[_Content]]
) -> list[Entry]:
    """The entries, those refused that look like the annotation mask of another one.

    A mask has at most two values, and its name but for folder and ending, its size, its class and
    its split are those of a picture that has more.
    """
    pictures: dict[tuple[object, ...], str] = {}
    drawn: dict[int, tuple[object, ...]] = {}
    for n, (entry, [content, *_]) in enumerate(zip(entries, contents, strict=True)):
        stem = without_ending(entry.file.path).rpartition("/")[2]
        known = (stem, entry.place, content.width, content.height)
        if content.mode.endswith(_TWO_VALUES):
            drawn[n] = known
        elif content.width and entry.place and not entry.file.refused:
            pictures[known] = entry.file.path
    marked = list(entries)
    for n, known in drawn.items():
        if known in pictures and not entries[n].file.refused:
            why = f"{MASK} of {pictures[known]!r} by its content (--keep-masks: an image)"
            marked[n] = replace(entries[n], file=replace(entries[n].file, refused=why))
    return marked


def _pictures(
    entries: Sequence[Entry], contents: Sequence[Sequence[_Content]], card: Card
) -> tuple[list[Entry], list[_Content]]:
    """A row for every picture of every file, those of one file in one group."""
    rows: list[Entry] = []
    found: list[_Content] = []
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
    if card.volumes == "refuse":
        found = [
            replace(content, problem=SEVERAL) if one_of_several(content.mode) else content
            for content in found
        ]
    return rows, found


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
    *,
    every: bool,
) -> list[list[_Content]]:
    """What is in each file; an unchanged one is not opened again, a refused one never.

    Args:
        every: of several pictures in a file each is opened, else the middle one.
    """
    known = {} if previous is None else _contents(previous, every=every)
    contents = [
        [_Content()] if file.refused else known.get((file.path, file.bytes, file.mtime_ns))
        for file in files
    ]
    todo = [row for row, content in enumerate(contents) if content is None]
    pool = ThreadPoolExecutor(workers, thread_name_prefix="scan")
    try:
        opened = pool.map(lambda row: _open(root / files[row].path, every=every), todo)
        for done, (row, content) in enumerate(zip(todo, opened, strict=True), start=1):
            contents[row] = content
            if on_file:
                on_file(done, len(todo))
    finally:
        pool.shutdown(cancel_futures=True)
    return [content or [_Content()] for content in contents]


def _contents(manifest: Manifest, *, every: bool) -> dict[tuple[str, int, int], list[_Content]]:
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
    known: dict[tuple[str, int, int], list[_Content]] = {}
    for path, size, mtime, image_id, width, height, mode, patient, problem in zip(
        *columns, strict=True
    ):
        # Without an id the file was not even opened.
        if not image_id or may_pass(problem) or problem == TOO_MANY:
            continue
        told = "" if problem in {OUTSIDE, SEVERAL} or problem.startswith(MASK) else problem
        content = _Content(image_id, width, height, mode, patient, told)
        for place in (path, path.rpartition("/")[0]) if every else (path,):
            known.setdefault((place, size, mtime), []).append(content)
    return {place: contents for place, contents in known.items() if _whole(contents, every=every)}


def _whole(contents: Sequence[_Content], *, every: bool) -> bool:
    """Whether these are all pictures of a file that are asked for."""
    several = next(filter(None, (one_of_several(content.mode) for content in contents)), None)
    return len(contents) == (several[2] if every and several else 1)


def _open(path: Path, *, every: bool) -> list[_Content]:
    """Hash and decode one file: its only picture, the middle one, or all."""
    try:
        with steady(path):
            file_id, found = sha256(path), _decoded(path)
            several = None if isinstance(found, ImageError) else one_of_several(found.mode)
            if not (every and several):
                return [_content(file_id, found)]
            if several[2] > MAX_PICTURES:
                return [_Content(file_id, problem=TOO_MANY)]
            return [
                _content(picture_id(file_id, number), _decoded(path, number))
                for number in range(several[2])
            ]
    except ImageError as error:
        return [_Content(problem=str(error))]
    except OSError as error:
        return [_Content(problem=f"cannot be read: {error.strerror}")]


def _content(image_id: str, found: Decoded | ImageError) -> _Content:
    if isinstance(found, ImageError):
        return _Content(image_id, problem=str(found))
    height, width, _ = found.pixels.shape
    values = _TWO_VALUES if at_most_two_values(found.pixels) else ""
    return _Content(image_id, width, height, found.mode + values, found.patient)


def _decoded(path: Path, number: int | None = None) -> Decoded | ImageError:
    try:
        return decode(path, number)
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
        content.patient,
        content.width,
        content.height,
        content.mode,
        entry.file.bytes,
        entry.file.mtime_ns,
        entry.file.refused or content.problem or ("" if entry.place else OUTSIDE),
    )
