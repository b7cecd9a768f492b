"""Image files as arrays, whatever their format; what a file holds decides, not its name."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medfocus_pipeline.datasets.dicom import NEEDS_PLUGIN, decode_dicom
from medfocus_pipeline.datasets.nifti import decode_nifti
from medfocus_pipeline.datasets.raster import decode_raster, raster_kind
from medfocus_pipeline.errors import ImageError, MedFocusError, one_line
from medfocus_pipeline.places import local_copy
from medfocus_pipeline.types import Image, Mask

EXTENSIONS = frozenset(
    (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom", ".nii", ".nii.gz")
)
"""Lower-case ends of the file names that are taken for images."""

FORMATS = "PNG, JPEG, JPEG 2000, TIFF, BMP, GIF, PNM, WebP, DICOM or NIfTI"

WITHOUT_PREAMBLE = (b"\x08\0\x05\0", b"\x08\0\0\0", b"\x08\0\x08\0", b"\x08\0\x16\0")
"""How DICOM without its preamble begins: an early element of group 8, little-endian."""

_NIFTI = (b"n+1\0", b"n+2\0")

PASSING = "cannot be read:"
"""Begins the problem of a file that may be whole; it is opened again by the next scan."""

CHANGED = "is another file than the scan saw"
"""Problem of a file whose content is no longer that of its id."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded image.

    Attributes:
        pixels: ``(h, w, 3) uint8``, C-contiguous.
        mode: what the file holds: Pillow's mode (``L``, ``RGB``, ``I;16`` …), or
            ``DICOM MONOCHROME2 frame 12/24``, ``NIfTI int16 slice 12/24``.
        patient: digest of DICOM's PatientID, else StudyInstanceUID, else empty.
    """

    pixels: Image
    mode: str
    patient: str = ""


def read_image(path: Path) -> Image:
    """Read an image of any supported format.

    Returns:
        ``(h, w, 3) uint8`` RGB, C-contiguous. Raster images are turned as EXIF says, alpha is
        laid over black, 16-bit, 32-bit and float greys are scaled to their own range, and of
        several pages the first is taken; see `decode_dicom` and `decode_nifti` for the rest.

    Raises:
        ImageError: the file cannot be read, in one sentence that names it.
    """
    try:
        return decode(path).pixels
    except ImageError as error:
        raise ImageError(f"{path} {error}.") from error


def one_of_several(mode: str) -> tuple[str, int, int] | None:
    """Which of several pictures a mode is of.

    >>> one_of_several("NIfTI int16 slice 12/24")
    ('slice', 12, 24)
    """
    match = re.search(r" (slice|frame|page) (\d+)/(\d+)", mode)
    return (match[1], int(match[2]), int(match[3])) if match else None


def picture_place(path: Path) -> tuple[Path, int | None]:
    """File and number (from 0) of ``scan.nii.gz/0012``: one picture of a file with several."""
    several = path.name.isdecimal() and path.parent.is_file()
    return (path.parent, int(path.name)) if several else (path, None)


def picture_id(file_id: str, number: int | None) -> str:
    """The image id of one picture of a file; of a file's only one it is that of the file."""
    return file_id if number is None else hashlib.sha256(f"{file_id}/{number}".encode()).hexdigest()


def decode(path: Path, number: int | None = None) -> Decoded:
    """Read an image and say what kind it is.

    Args:
        path: of the file.
        number: of the slice, frame or page, from 0; None is the middle one, of pages the first.

    Raises:
        ImageError: why not, as the end of a sentence that begins with the file's name.
    """
    try:
        with local_copy(path) as here:
            return _decode(here, number)
    except (OSError, MemoryError) as error:
        # What the system refuses may pass; a decoder's own OSError, without a number, will not.
        passing = isinstance(error, MemoryError) or error.errno is not None
        how = PASSING if passing else "is damaged:"
        raise ImageError(f"{how} {one_line(error)}") from error
    except MedFocusError:
        raise
    except Exception as error:  # decoders raise dozens of classes on damaged files
        raise ImageError(f"is damaged: {one_line(error)}") from error


def _decode(path: Path, number: int | None) -> Decoded:
    with path.open("rb") as file:
        head = file.read(132)
        file.seek(0)
        if not head:
            raise ImageError("is empty (0 bytes)")
        if head[128:] == b"DICM" or head.startswith(WITHOUT_PREAMBLE):
            return Decoded(*decode_dicom(path, number))
        kind = raster_kind(head)
        if kind:
            return Decoded(*decode_raster(file, kind, number or 0))
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return Decoded(*decode_nifti(path, number))
    raise ImageError(f"is no image: expected {FORMATS}")


def is_image(head: bytes) -> bool:
    """Whether a file that begins like this is taken for an image, whatever it is called.

    Args:
        head: its first 352 bytes or fewer.
    """
    dicom = head[128:132] == b"DICM" or head.startswith(WITHOUT_PREAMBLE)
    return dicom or head[344:348] in _NIFTI or raster_kind(head) is not None


@contextmanager
def steady(path: Path) -> Iterator[Path]:
    """For what is hashed and decoded one after the other: both see the same bytes, of this file.

    Raises:
        ImageError: the file was changed meanwhile.
        OSError: it is gone.
    """
    with local_copy(path) as file:
        before = _stamp(file)
        yield file
        if _stamp(file) != before:
            raise ImageError(f"{PASSING} it was changed meanwhile")


def may_pass(problem: str) -> bool:
    """Whether a file with this problem may be good by now, though it looks the same."""
    return problem.startswith((PASSING, CHANGED)) or NEEDS_PLUGIN in problem


def _stamp(path: Path) -> tuple[int, ...]:
    """What no writer leaves as it was."""
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_annotation(paths: Sequence[Path], size: tuple[int, int]) -> Mask:
    """Union of an image's annotation masks.

    Args:
        paths: mask files of any mode; every pixel that is not black belongs to the mask.
        size: (h, w) of the image; a mask of another size is brought to it by nearest
            neighbour.

    Returns:
        ``(h, w) bool``; all False without paths.

    Raises:
        ImageError: a mask cannot be read.
    """
    union = np.zeros(size, dtype=np.bool_)
    for path in paths:
        mask = read_image(path).any(axis=2)
        if mask.shape != size:
            import PIL.Image

            picture = PIL.Image.fromarray(mask).resize(size[::-1], PIL.Image.Resampling.NEAREST)
            mask = np.asarray(picture)
        union |= mask
    return union
