"""Writing a folder of phantoms: images, masks, card and captions, by several processes.

A phantom is done when the captions list it and its files are there. A run that was killed draws
the few that are not listed once more, to the same bytes.
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from medfocus_pipeline.datasets.phantoms import folder as folders
from medfocus_pipeline.datasets.phantoms.done import Row, place_of, read_done, rows_of, write_done
from medfocus_pipeline.datasets.phantoms.folder import PhantomSet, Place
from medfocus_pipeline.datasets.phantoms.painting import Phantom
from medfocus_pipeline.datasets.phantoms.phantom import PICTURES, draw
from medfocus_pipeline.datasets.readers import read_image
from medfocus_pipeline.errors import DataError
from medfocus_pipeline.files import write_text
from medfocus_pipeline.workers import worker_pool

_PACKET = 16
"""Phantoms that a process draws at once."""
_PACKETS_A_LIST = 32
"""Packets between two updates of the captions: what a killed run draws again at most."""
_IMAGES_A_PROCESS = 64
"""Fewer are drawn before a process of their own has imported what it needs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to draw.

    Attributes:
        wanted: every phantom asked for.
        missing: those of them that are not done.
        done: path -> row of the captions, of every phantom that is, wanted or not.
    """

    phantoms: PhantomSet
    folder: Path
    wanted: list[Place]
    missing: list[Place]
    done: Mapping[str, Row]

    @property
    def more(self) -> int:
        """Number of phantoms that are there beyond those asked for."""
        return len(self.done) + len(self.missing) - len(self.wanted)


def plan(phantoms: PhantomSet, folder: Path, *, train: int, test: int) -> Plan:
    """What of a set is missing in a folder; nothing is written.

    Args:
        phantoms: which phantoms.
        folder: where they are, or will be.
        train: number of training images; without an official split, ``train + test`` in all.
        test: number of test images.

    Raises:
        ConfigError: no such kind, or not a number of images.
        DataError: the folder holds something else, or phantoms of other settings.
    """
    wanted = folders.places(phantoms.kind, train=train, test=test)
    done = read_done(folder) if folders.check_folder(folder, phantoms) else {}
    missing = [place for place in wanted if place.path not in done]
    return Plan(phantoms, folder, wanted, missing, done)


def prepare(todo: Plan) -> None:
    """Make the folder known as one of phantoms, with its card; what is there stays.

    Raises:
        DataError: the disk is full or does not let itself be written to.
    """
    texts = {
        folders.SETTINGS: todo.phantoms.model_dump_json(indent=2, exclude_none=True) + "\n",
        folders.CARD: folders.card_text(todo.phantoms.kind),
    }
    with _disk_errors(todo.folder):
        for name, text in texts.items():
            if not (todo.folder / name).exists():
                write_text(todo.folder / name, text)


def write(
    todo: Plan, *, workers: int = 1, on_images: Callable[[int], object] | None = None
) -> None:
    """Draw what is missing in a folder that was prepared.

    The files do not depend on the number of processes, nor on what was there before.

    Args:
        todo: from `plan`.
        workers: processes that draw.
        on_images: told how many more images are written.

    Raises:
        DataError: the phantoms that are there were drawn by another version of MedFocus, or
            the disk is full or does not let itself be written to.
    """
    if todo.done and todo.missing:
        _check_drawing(todo)
    packets = [todo.missing[n : n + _PACKET] for n in range(0, len(todo.missing), _PACKET)]
    rows = dict(todo.done)
    with _disk_errors(todo.folder):
        _make_folders(todo)
        try:
            with _processes(workers, len(todo.missing)) as mapped:
                drawn = mapped(partial(_draw_packet, todo.phantoms, todo.folder), packets)
                for number, (packet, captions) in enumerate(zip(packets, drawn, strict=True), 1):
                    rows |= rows_of(todo.phantoms, packet, captions)
                    if number % _PACKETS_A_LIST == 0:
                        write_done(todo.folder, rows)
                    if on_images:
                        on_images(len(packet))
        finally:
            write_done(todo.folder, rows)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"Writing in {folder} failed: {error.strerror or error}. Free some space or name "
            "another folder with --data, then run the same command again."
        ) from error


def _check_drawing(todo: Plan) -> None:
    """Refuse to mix the drawings of two versions."""
    row = todo.done[min(todo.done)]
    expected = _draw(todo.phantoms, place_of(row)).image
    if not np.array_equal(read_image(todo.folder / row["path"]), expected):
        raise DataError(
            f"{todo.folder} was drawn by another version of MedFocus, or changed since: "
            f"{row['path']} would be another picture now. Name another folder with --data, or "
            f"replace the phantoms there: medfocus phantom {todo.phantoms.kind} --force"
        )


def _make_folders(todo: Plan) -> None:
    for parent in {(todo.folder / place.path).parent for place in todo.missing}:
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(".*.partial"):
            left.unlink()


def _draw(phantoms: PhantomSet, place: Place) -> Phantom:
    return draw(
        phantoms.kind,
        phantoms.seed,
        place.index,
        size=phantoms.size,
        difficulty=phantoms.difficulty,
        label=place.label,
        machine=phantoms.machine,
    )


def _draw_packet(phantoms: PhantomSet, folder: Path, packet: Sequence[Place]) -> list[str]:
    """Draw and write some phantoms; returns their captions."""
    captions = []
    for place in packet:
        phantom = _draw(phantoms, place)
        image = phantom.image if phantoms.kind == PICTURES else phantom.image[..., 0]
        mask = np.where(phantom.lesion, np.uint8(255), np.uint8(0))
        # Without strict: a picture that is not annotated has no mask file.
        for path, pixels in zip(folders.files(phantoms.kind, place.path), (image, mask)):  # noqa: B905
            _save(folder / path, pixels)
        captions.append(phantom.caption)
    return captions


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    """A PNG file, whole or absent; not flushed, since it can be drawn again."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        PIL.Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _processes(workers: int, images: int) -> Iterator[Callable[..., Iterable[list[str]]]]:
    """A ``map`` in this process or in several."""
    processes = min(workers, 1 + images // _IMAGES_A_PROCESS)
    if processes == 1:
        yield map
        return
    with worker_pool(processes, begin=_leave_ctrl_c) as pool:
        yield pool.map


def _leave_ctrl_c() -> None:
    """Ctrl-C is for the parent process, which ends this one after its packet."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
