"""Image files as arrays, whatever their format; what a file holds decides, not its name."""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL.Image
from PIL import ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from medfocus_pipeline.datasets.dicom import decode_dicom
from medfocus_pipeline.datasets.nifti import decode_nifti
from medfocus_pipeline.datasets.pixels import as_rgb, check_size, to_rgb8
from medfocus_pipeline.errors import ImageError
from medfocus_pipeline.types import Image, Mask

EXTENSIONS = frozenset(
    (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm", ".dicom", ".nii", ".nii.gz")
)
"""Lower-case ends of the file names that are taken for images."""

# Pillow's own classes instead of Image.open: that one warns of large images through the
# process-wide warning filters, which threads cannot set for themselves.
_RASTER: dict[bytes, tuple[str, Callable[[BinaryIO], ImageFile]]] = {
    b"\x89PNG\r\n\x1a\n": ("PNG", PngImageFile),
    b"\xff\xd8\xff": ("JPEG", JpegImageFile),
    b"II*\0": ("TIFF", TiffImageFile),
    b"MM\0*": ("TIFF", TiffImageFile),
    b"II+\0": ("TIFF", TiffImageFile),
    b"MM\0+": ("TIFF", TiffImageFile),
    b"BM": ("BMP", BmpImageFile),
    b"RIFF": ("WebP", WebPImageFile),
}

# What decoders raise on damaged files besides their own error classes.
_DAMAGED = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    PIL.Image.DecompressionBombError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Decoded:
    """One decoded image.

    Attributes:
        pixels: ``(h, w, 3) uint8``, C-contiguous.
        mode: what the file holds: Pillow's mode (``L``, ``RGB``, ``I;16`` …), or
            ``DICOM MONOCHROME2 frame 12/24``, ``NIfTI int16 slice 12/24``.
    """

    pixels: Image
    mode: str


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


def decode(path: Path) -> Decoded:
    """Read an image and say what kind it is.

    Raises:
        ImageError: why not, as the end of a sentence that begins with the file's name.
    """
    try:
        with path.open("rb") as file:
            head = file.read(132)
            file.seek(0)
            if not head:
                raise ImageError("is empty (0 bytes)")
            if head[128:] == b"DICM":
                return Decoded(*decode_dicom(path))
            for magic, (kind, opener) in _RASTER.items():
                if head.startswith(magic):
                    return Decoded(*_decode_raster(file, kind, opener))
        if path.name.lower().endswith((".nii", ".nii.gz")):
            return Decoded(*decode_nifti(path))
    except OSError as error:
        raise ImageError(f"cannot be read: {_one_line(error)}") from error
    except _DAMAGED as error:
        raise ImageError(f"is damaged: {_one_line(error)}") from error
    raise ImageError("is no image: expected PNG, JPEG, TIFF, BMP, WebP, DICOM or NIfTI")


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
            picture = PIL.Image.fromarray(mask).resize(size[::-1], PIL.Image.Resampling.NEAREST)
            mask = np.asarray(picture)
        union |= mask
    return union


def _decode_raster(
    file: BinaryIO, kind: str, opener: Callable[[BinaryIO], ImageFile]
) -> tuple[Image, str]:
    """Picture and mode of a file that Pillow reads."""
    try:
        image = opener(file)
    except SyntaxError as error:
        raise ImageError(f"is no readable {kind}: {_one_line(error)}") from error
    check_size(*image.size)
    mode = image.mode
    ImageOps.exif_transpose(image, in_place=True)
    if mode == "F" or mode.startswith("I"):
        return to_rgb8(np.asarray(image)), mode
    if not image.has_transparency_data:
        return as_rgb(np.asarray(image.convert("RGB"))), mode
    layer = image.convert("RGBA")
    black = PIL.Image.new("RGBA", layer.size, (0, 0, 0, 255))
    return as_rgb(np.asarray(PIL.Image.alpha_composite(black, layer).convert("RGB"))), mode


def _one_line(error: BaseException) -> str:
    """An exception's text in one line of valid Unicode."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    words = " ".join((text or type(error).__name__).split())
    return words.encode("utf-8", "backslashreplace").decode()[:200].rstrip(".")
