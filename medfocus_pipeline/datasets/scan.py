"""From a folder or a CSV to the manifest."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from medfocus_pipeline.datasets.card import Card, card_folders, check_name, known_cards
from medfocus_pipeline.datasets.files import ImageFile, find_images
from medfocus_pipeline.datasets.layout import Place, guess_card, is_left_out, place_files
from medfocus_pipeline.datasets.listing import Listed, read_listing
from medfocus_pipeline.datasets.manifest import Manifest, build
from medfocus_pipeline.datasets.readers import decode
from medfocus_pipeline.errors import DataError, ImageError

OUTSIDE = "is outside the card's layout"
"""Problem of a readable image that lies in no folder of a class."""


@dataclass(frozen=True, slots=True)
class _Content:
    """What only opening a file can tell."""

    image_id: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
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
        One row for every image file, sorted by path, also for those that cannot be used.

    Raises:
        DataError: no such source, no image in it, or none where the card looks for them.
        ConfigError: the name is not usable.
    """
    check_name(name)
    if not source.exists():
        known = ", ".join(known_cards(card_folders()))
        raise DataError(
            f"The data of {name!r} is not at {source}. Put its images there, or say where they "
            f"are: DATA=path/to/images. Data sets with a card: {known}"
        )
    if source.is_file():
        listed, used = read_listing(source, card)
        listed = [line for line in listed if not is_left_out(line.file.path, used)]
        files = [line.file for line in listed]
        places: Sequence[Place | None] = [line.place for line in listed]
        groups = [line.group or used.patient_of(line.file.path) for line in listed]
    else:
        files, used = _find(source, name, card)
        places = place_files([file.path for file in files], used)
        groups = [used.patient_of(file.path) for file in files]
        _check_layout(source, files, places, used)
    contents = _open_all(data_root(source), files, previous, on_file, workers)
    classes = [item.name for item in used.classes]
    rows = zip(files, places, groups, contents, strict=True)
    columns = _columns(rows, classes)
    return build(columns, name=name, classes=classes, from_card=card is not None)
