"""Picture files as arrays: through Pillow, and where it keeps too few bits, pypng and tifffile."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.datasets.pixels import as_rgb, reduction, room_for, to_rgb8
from medfocus_pipeline.errors import ImageError
from medfocus_pipeline.types import Image

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"RIFF": "WebP",
    b"GIF8": "GIF",
    b"P2": "PNM",
    b"P3": "PNM",
    b"P5": "PNM",
    b"P6": "PNM",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}

_DEEP_PNG = ((16, 2), (16, 4), (16, 6))
"""Bits and kinds (colour, grey with alpha, colour with alpha) of which Pillow drops half."""

_DARK = 16
"""Grey levels that a picture must span at least to be one."""

_BYTES_EACH = 20
"""That a pixel takes: four pictures of Pillow's and an array."""


def raster_kind(head: bytes) -> str | None:
    """Which raster format a file's first bytes are of; None for another one."""
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def decode_raster(file: BinaryIO, kind: str, page: int = 0) -> tuple[Image, str]:
    """Picture, upright and without alpha, and Pillow's mode, of one of the pages.

    Alpha is laid over black, or over white where only that leaves a picture (ink on a clear
    page); alpha that is 0 throughout is not meant. More than 8 bits are scaled by `to_rgb8`, and
    film whose white is 0 is turned.

    Args:
        file: at its beginning.
        kind: from `raster_kind`.
        page: from 0.

    Raises:
        ImageError: it is not of that kind, too large, or damaged.
        Exception: whatever else Pillow raises on a damaged file.
    """
    import PIL.Image

    if kind == "TIFF" and (deep := _deep_tiff(file, page)):
        return deep
    try:
        file.seek(0)
        image = _opener(kind)(file)
        if page:
            image.seek(page)
        mode = image.mode + _place(page, getattr(image, "n_frames", 1))
        with room_for(*image.size, each=_BYTES_EACH):
            if kind == "PNG" and not page and (head := _png_head(file)) in _DEEP_PNG:
                return _deep_png(file), f"{mode} {head[0]} bits"
            return _upright(image), mode
    except SyntaxError as error:
        raise ImageError(f"is no readable {kind}: {error}") from error
    except PIL.Image.DecompressionBombError as error:
        raise ImageError(f"is damaged: {error}") from error


def _upright(image: "ImageFile") -> Image:
    import PIL.Image
    from PIL import ImageOps

    mode = image.mode
    ImageOps.exif_transpose(image, in_place=True)
    if mode == "F" or mode.startswith("I"):
        return to_rgb8(np.asarray(image))
    if not image.has_transparency_data:
        plain = image if mode in {"L", "RGB"} else image.convert("RGB")
        return as_rgb(np.asarray(plain.reduce(reduction(plain.height, plain.width))))
    layer = image.convert("RGBA")
    if not np.asarray(layer)[..., 3].any():
        return as_rgb(np.asarray(layer.convert("RGB")))
    black, white = (
        np.asarray(
            PIL.Image.alpha_composite(
                PIL.Image.new("RGBA", layer.size, (level, level, level, 255)), layer
            ).convert("RGB")
        )
        for level in (0, 255)
    )
    return as_rgb(white if np.ptp(black) < _DARK <= np.ptp(white) else black)


def _place(page: int, pages: int) -> str:
    """`` page 1/3`` of a file with several."""
    return f" page {page + 1}/{pages}" if pages > 1 else ""


def _png_head(file: BinaryIO) -> tuple[int, int]:
    """Bits a sample, and PNG's kind of colour."""
    file.seek(24)
    bits, kind = file.read(2)
    return bits, kind


def _deep_png(file: BinaryIO) -> Image:
    import png

    file.seek(0)
    width, height, rows, _ = png.Reader(file=file).asDirect()
    values = np.vstack([np.asarray(row, np.uint16) for row in rows])
    return to_rgb8(_opaque(values.reshape(height, width, -1)))


def _deep_tiff(file: BinaryIO, number: int) -> tuple[Image, str] | None:
    """Picture and mode of a TIFF of more than 8 bits a sample; None of another one.

    A palette's samples are indices.
    """
    import tifffile

    file.seek(0)
    try:
        tiff = tifffile.TiffFile(file)
    except (tifffile.TiffFileError, ValueError):
        return None  # Pillow says what is wrong with it
    with tiff:
        page: Any = tiff.pages[number]
        if page.bitspersample <= 8 or page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            return None
        with room_for(page.imagewidth, page.imagelength, each=_BYTES_EACH):
            values = page.asarray()
            if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and values.ndim == 3:
                values = np.moveaxis(values, 0, -1)
            colour = values if values.ndim == 3 else values[..., None]
            inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
            picture = to_rgb8(_opaque(colour), inverted=inverted)
        return picture, f"{page.dtype}" + _place(number, len(tiff.pages))


def _opaque(values: NDArray[Any]) -> NDArray[Any]:
    """``(h, w)`` or ``(h, w, 3)`` of samples with or without alpha; what is clear is a hole."""
    samples = values.shape[2]
    if samples in {2, 4}:
        clear = values[..., -1:] == 0
        colour = values[..., :-1].astype(np.float64)
        values = colour if clear.all() else np.where(clear, np.nan, colour)
    return values[..., 0] if values.shape[2] == 1 else values[..., :3]


def _opener(kind: str) -> "Callable[[BinaryIO], ImageFile]":
    """Pillow's class for a format.

    `PIL.Image.open` would warn of large images through the process-wide warning filters,
    which threads cannot set for themselves.
    """
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.GifImagePlugin import GifImageFile
    from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.PpmImagePlugin import PpmImageFile
    from PIL.TiffImagePlugin import TiffImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    openers: dict[str, Callable[[BinaryIO], ImageFile]] = {
        "PNG": PngImageFile,
        "JPEG": JpegImageFile,
        "TIFF": TiffImageFile,
        "BMP": BmpImageFile,
        "WebP": WebPImageFile,
        "GIF": GifImageFile,
        "PNM": PpmImageFile,
        "JPEG 2000": Jpeg2KImageFile,
    }
    return openers[kind]
