"""A folder that was scanned before: what changed is looked at, the other rows stay as they are.

They stay where what they say cannot depend on the files that changed. `updated` gives up where it
could: then everything is worked out anew, as objects.
"""

import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medfocus_pipeline.columns import id_array, is_empty, kinds, numbers, row_array, whole
from medfocus_pipeline.datasets.card import Card
from medfocus_pipeline.datasets.contents import MASK, TWO_VALUES, Content, is_passing, open_all
from medfocus_pipeline.datasets.found import Folder, ImageFile
from medfocus_pipeline.datasets.inputs import of_equal_rules
from medfocus_pipeline.datasets.layout import Entry, Place, guess_card, place_files
from medfocus_pipeline.datasets.manifest import Manifest, build
from medfocus_pipeline.datasets.names import MAY_BE_MASK, patient_folders, stem_of
from medfocus_pipeline.datasets.rows import folders_below, row_of, validated, without_several
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.types import IntArray

_FEW, _SHARE = 1000, 10
"""So many files may have changed, or one in so many; else all are worked out anew."""

_FILE = "file"
"""Stands for the files of a folder, whose names say nothing of their place."""


@dataclass(frozen=True, slots=True)
class _Changes:
    """What is not as it was.

    Attributes:
        new: files that were added or changed, by path.
        kept: rows of the earlier manifest that stay, ascending.
        folders: that hold images now, each ending in a slash.
    """

    new: list[ImageFile]
    kept: IntArray
    folders: set[str]


@dataclass(frozen=True, slots=True)
class _Layout:
    """What folders say of all their files.

    Attributes:
        card: the data set's, or the one that is guessed.
        places: by folder.
        patients: by folder, of those with a place.
    """

    card: Card
    places: dict[str, Place | None]
    patients: dict[str, str]

    @classmethod
    def of(cls, folders: Iterable[str], card: Card | None, title: str) -> "_Layout":
        """That of these folders; see `place_files`."""
        paths = {folder: folder + _FILE for folder in sorted(folders)}
        used = card or guess_card(list(paths.values()), title)
        places = dict(zip(paths, place_files(list(paths.values()), used), strict=True))
        placed = {name: place.class_index for name, place in places.items() if place}
        below = [(index, folders_below(paths[name], used)) for name, index in placed.items()]
        return cls(used, places, dict(zip(placed, patient_folders(below), strict=True)))

    def agrees(self, other: "_Layout") -> bool:
        """Whether both say the same of the folders that both have."""
        return self.card == other.card and all(
            self.places[name] == other.places[name]
            and self.patients.get(name) == other.patients.get(name)
            for name in self.places.keys() & other.places.keys()
        )


def updated(
    previous: Manifest,
    source: Path,
    folders: Iterable[Folder],
    *,
    inputs: str,
    card: Card | None,
    keep_masks: bool,
    on_file: Callable[[int, int], None] | None,
    workers: int,
) -> Manifest | None:
    """The manifest of a folder of which an earlier one is known.

    Args:
        previous: that one, without a gate's scores.
        folders: of `walk`.
        inputs: see `digest_of`.
        keep_masks: nothing is taken for an annotation mask.
        on_file, workers: see `scan`.

    Returns:
        What a scan without `previous` gives; None where the rows that stay may depend on what
        changed, or too much did.
    """
    others = card is not None and (card.exclude or card.annotation or card.volumes == "all")
    if others or not of_equal_rules(previous.inputs, inputs):
        return None
    changes = _find(previous, folders, keep_masks=keep_masks)
    layout = changes and _layout(previous, changes, card, source.name)
    if not changes or not layout:
        return None
    used = layout.card
    entries = [
        validated(Entry(file, layout.places[_folder(file.path)], used.patient_of(file.path)), used)
        for file in changes.new
    ]
    opened = open_all(source, changes.new, None, on_file, workers, every=False)
    contents = without_several([pictures[0] for pictures in opened], used)
    groups = _groups(previous, changes, layout, entries, contents)
    drawn = not keep_masks and _may_draw_masks(previous, entries, contents)
    if groups is None or drawn or any(entry.file.refused for entry in entries):
        return None
    rows = [
        row_of(entry, content, previous.classes, group)
        for entry, content, group in zip(entries, contents, groups, strict=True)
    ]
    return _spliced(previous, changes, rows).with_inputs(inputs)


def _find(previous: Manifest, folders: Iterable[Folder], *, keep_masks: bool) -> _Changes | None:
    """What changed; None where it is too much, or a file is refused or may be called a mask."""
    words, which = kinds(previous.column("problem"))
    if is_empty(previous.column("image_id")).any() or any(map(_is_mask, words)):
        return None
    parts, facts = [id_array([])], [np.zeros((0, 2), np.int64)]
    names: set[str] = set()
    for part in folders:
        if any(why for *_, why in part.files):
            return None
        parts.append(id_array([path for path, *_ in part.files]))
        facts.append(np.array([file[1:3] for file in part.files], np.int64).reshape(-1, 2))
        names.update(_folder(path) for path, *_ in part.files[:1])
    paths, stats = pa.concat_arrays(parts), np.concatenate(facts)
    if not keep_masks and pc.any(pc.match_substring_regex(paths, MAY_BE_MASK)).as_py():
        return None
    rows = _rows_of(paths, previous)
    good = np.array([not is_passing(word) for word in words], np.bool_)[which]
    known = np.stack([numbers(previous.column(name)) for name in ("bytes", "mtime_ns")], axis=1)
    same = rows >= 0
    same[same] = good[rows[same]] & (known[rows[same]] == stats[same]).all(axis=1)
    kept, new = np.sort(rows[same]), np.flatnonzero(~same)
    if max(len(new), len(previous) - len(kept)) > max(_FEW, len(previous) // _SHARE):
        return None
    files = [ImageFile(str(paths[row]), *stats[row].tolist()) for row in new.tolist()]
    return _Changes(sorted(files, key=lambda file: file.path), kept, names)


def _is_mask(problem: str) -> bool:
    return problem.startswith(MASK)


def _rows_of(paths: pa.StringArray, previous: Manifest) -> IntArray:
    """The row of each path in the earlier manifest, ``(n,) int64``, -1 without one."""
    found = pc.index_in(paths, value_set=whole(previous.column("path")))
    there = numbers(found.is_valid().cast(pa.uint8())) == 1
    rows = np.frombuffer(found.buffers()[1] or b"", np.int32)[: len(found)]
    return np.where(there, rows, -1)


def _layout(previous: Manifest, changes: _Changes, card: Card | None, title: str) -> _Layout | None:
    """What the folders say now; None where they say something else than before."""
    folders = pc.replace_substring_regex(previous.column("path"), "[^/]*$", "").unique()
    try:
        before = _Layout.of(folders.to_pylist(), card, title)
        now = _Layout.of(changes.folders, card, title)
    except DataError:  # said by the scan that works everything out
        return None
    classes = tuple(item.name for item in now.card.classes)
    same = classes == previous.classes and before.agrees(now)
    return now if same and any(now.places.values()) else None


def _folder(path: str) -> str:
    return path[: path.rfind("/") + 1]


def _groups(
    previous: Manifest,
    changes: _Changes,
    layout: _Layout,
    entries: Sequence[Entry],
    contents: Sequence[Content],
) -> list[str] | None:
    """The patient of each new file; None where those of others are told otherwise than before."""
    column, kept = previous.column("group"), row_array(changes.kept)
    said, own = np.flatnonzero(~is_empty(column)), [entry.group for entry in entries]
    if len(said):
        first = row_array(said[:1])
        [path], [group] = (one.take(first).to_pylist() for one in (previous.column("path"), column))
        if layout.card.patient_of(path) == group:  # the paths tell
            stays = any(own) or not is_empty(column.take(kept)).all()
            return own if stays else None
    headers = [content.patient for content in contents]
    known = previous.column("patient")
    differ = _differ(known, [])
    if any(own) or differ != _differ(known.take(kept), headers):
        return None
    folders = [layout.patients.get(_folder(entry.file.path), "") for entry in entries]
    return headers if differ else folders


def _differ(headers: pa.ChunkedArray, more: Sequence[str]) -> bool:
    """Whether two patients at least are named."""
    words = headers.unique()
    some = words.slice(0, 3).to_pylist()  # one of them may be empty
    return len({*some, *more} - {""}) > 1


def _may_draw_masks(
    previous: Manifest, entries: Sequence[Entry], contents: Sequence[Content]
) -> bool:
    """Whether a picture of two values may be the annotation mask of another one."""
    words, which = kinds(previous.column("mode"))
    two = np.array([word.endswith(TWO_VALUES) for word in words], np.bool_)
    rows = row_array(np.flatnonzero(two[which]))
    names = ("path", "width", "height")
    drawn = zip(*(previous.column(name).take(rows).to_pylist() for name in names), strict=True)
    known = {(stem_of(path), *size) for path, *size in drawn}
    return any(
        content.mode.endswith(TWO_VALUES)
        or (stem_of(entry.file.path), content.width, content.height) in known
        for entry, content in zip(entries, contents, strict=True)
    )


def _spliced(previous: Manifest, changes: _Changes, rows: Sequence[Sequence[object]]) -> Manifest:
    """The rows that stay and the new ones, by path."""
    old, kept = previous.table, changes.kept
    new = build(rows, name=previous.name, classes=previous.classes, from_card=False).table
    every = pa.concat_tables([old, new.replace_schema_metadata(old.schema.metadata)])
    paths = whole(old["path"])
    at = [bisect.bisect(kept, file.path, key=lambda row: str(paths[row])) for file in changes.new]
    order = np.insert(kept, at, len(old) + np.arange(len(new)))
    return Manifest(every.take(row_array(order)).combine_chunks())
