"""PNG, JPEG, TIFF, BMP and WebP files as arrays, through Pillow."""

from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from medfocus_pipeline.datasets.pixels import as_rgb, reduction, to_rgb8
from medfocus_pipeline.datasets.room import room_for
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
}

_BYTES_EACH = 20
"""That a pixel takes: four pictures of Pillow's and an array."""


def raster_kind(head: bytes) -> str | None:
    """Which raster format a file's first bytes are of; None for another one."""
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def decode_raster(file: BinaryIO, kind: str) -> tuple[Image, str]:
    """Picture, upright and without alpha, and Pillow's mode.

    Args:
        file: at its beginning.
        kind: from `raster_kind`.

    Raises:
        ImageError: it is not of that kind, too large, or damaged.
        Exception: whatever else Pillow raises on a damaged file.
    """
    import PIL.Image

    try:
        image = _opener(kind)(file)
        mode = image.mode
        with room_for(*image.size, each=_BYTES_EACH):
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
    black = PIL.Image.new("RGBA", layer.size, (0, 0, 0, 255))
    return as_rgb(np.asarray(PIL.Image.alpha_composite(black, layer).convert("RGB")))


def _opener(kind: str) -> "Callable[[BinaryIO], ImageFile]":
    """Pillow's class for a format.

    `PIL.Image.open` would warn of large images through the process-wide warning filters,
    which threads cannot set for themselves.
    """
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    openers: dict[str, Callable[[BinaryIO], ImageFile]] = {
        "PNG": PngImageFile,
        "JPEG": JpegImageFile,
        "TIFF": TiffImageFile,
        "BMP": BmpImageFile,
        "WebP": WebPImageFile,
    }
    return openers[kind]
