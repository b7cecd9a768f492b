"""What is in the files of a data set: each is hashed and decoded, unless it is as it was."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from medfocus_pipeline.datasets.found import ImageFile
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.pixels import at_most_two_values
from medfocus_pipeline.datasets.readers import (
    Decoded,
    decode,
    may_pass,
    one_of_several,
    picture_id,
    steady,
)
from medfocus_pipeline.errors import ImageError
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

TWO_VALUES = ", two values"
"""In the mode of a picture that may be a mask."""


@dataclass(frozen=True, slots=True)
class Content:
    """What only opening a file can tell."""

    image_id: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    patient: str = ""
    problem: str = ""


def open_all(
    root: Path,
    files: Sequence[ImageFile],
    previous: Manifest | None,
    on_file: Callable[[int, int], None] | None,
    workers: int,
    *,
    every: bool,
) -> list[list[Content]]:
    """What is in each file; an unchanged one is not opened again, a refused one never.

    Args:
        every: of several pictures in a file each is opened, else the middle one.
    """
    known = {} if previous is None else _contents(previous, every=every)
    contents = [
        [Content()] if file.refused else known.get((file.path, file.bytes, file.mtime_ns))
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
    return [content or [Content()] for content in contents]


def is_passing(problem: str) -> bool:
    """Whether a file with this problem is opened again though it looks the same."""
    return may_pass(problem) or problem == TOO_MANY


def _contents(manifest: Manifest, *, every: bool) -> dict[tuple[str, int, int], list[Content]]:
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
    columns = [manifest.column(name).to_pylist() for name in names]
    known: dict[tuple[str, int, int], list[Content]] = {}
    for path, size, mtime, image_id, width, height, mode, patient, problem in zip(
        *columns, strict=True
    ):
        # Without an id the file was not even opened.
        if not image_id or is_passing(problem):
            continue
        told = "" if problem in {OUTSIDE, SEVERAL} or problem.startswith(MASK) else problem
        content = Content(image_id, width, height, mode, patient, told)
        for place in (path, path.rpartition("/")[0]) if every else (path,):
            known.setdefault((place, size, mtime), []).append(content)
    return {place: contents for place, contents in known.items() if _whole(contents, every=every)}


def _whole(contents: Sequence[Content], *, every: bool) -> bool:
    """Whether these are all pictures of a file that are asked for."""
    several = next(filter(None, (one_of_several(content.mode) for content in contents)), None)
    return len(contents) == (several[2] if every and several else 1)


def _open(path: Path, *, every: bool) -> list[Content]:
    """Hash and decode one file: its only picture, the middle one, or all."""
    try:
        with steady(path) as file:
            file_id, found = sha256(file), _decoded(file)
            several = None if isinstance(found, ImageError) else one_of_several(found.mode)
            if not (every and several):
                return [_content(file_id, found)]
            if several[2] > MAX_PICTURES:
                return [Content(file_id, problem=TOO_MANY)]
            return [
                _content(picture_id(file_id, number), _decoded(file, number))
                for number in range(several[2])
            ]
    except ImageError as error:
        return [Content(problem=str(error))]
    except OSError as error:
        return [Content(problem=f"cannot be read: {error.strerror}")]


def _content(image_id: str, found: Decoded | ImageError) -> Content:
    if isinstance(found, ImageError):
        return Content(image_id, problem=str(found))
    height, width, _ = found.pixels.shape
    values = TWO_VALUES if at_most_two_values(found.pixels) else ""
    return Content(image_id, width, height, found.mode + values, found.patient)


def _decoded(path: Path, number: int | None = None) -> Decoded | ImageError:
    try:
        return decode(path, number)
    except ImageError as error:
        return error
