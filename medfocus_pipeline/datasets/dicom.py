"""DICOM files, by way of pydicom."""

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.datasets.pixels import as_rgb, room_for, to_rgb8
from medfocus_pipeline.errors import ImageError
from medfocus_pipeline.types import Image

if TYPE_CHECKING:
    from pydicom import FileDataset

NEEDS_PLUGIN = "needs a decoder plugin"
"""Part of the message about a compression that could be decoded once a plugin is installed."""

_MAX_INFLATED = 2**28
"""Bytes of a deflated data set above which it is taken for a decompression bomb."""

_META_BEGINS = 128 + 4 + 12
"""Of a file: preamble, mark and the group length of the file meta information (PS3.10 7.1)."""

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

_BYTES_EACH = 32
"""That a pixel takes: decoded, a palette's colours, and as a picture."""


def decode_dicom(path: Path, frame: int | None = None) -> tuple[Image, str, str]:
    """Picture, mode and patient (a digest) of a DICOM file; of several frames the middle one.

    The modality LUT or rescale comes first, then the VOI LUT or else the first window, then
    MONOCHROME1 is inverted (PS3.3 C.11.1, C.11.2, C.7.6.3.1.2). Grey values are scaled from
    the window's output range; without a window from 8 bits as they are, from more bits to the
    image's own range.

    Args:
        path: of the file.
        frame: from 0; None is the middle one.

    Raises:
        ImageError: no DICOM, no image in it, or a compression that cannot be decoded here.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        beside = 2 * path.stat().st_size + 2 * _inflated(path)
        header = dcmread(path, stop_before_pixels=True, force=True)
    except InvalidDicomError as error:
        raise ImageError("is not DICOM: no DICM mark after its preamble") from error
    if header.get("Modality") == "SEG" or header.get("BitsAllocated") == 1:
        raise ImageError("is a DICOM segmentation, which is an annotation and no image")
    no_image = f"is DICOM without an image ({header.get('Modality', 'no modality')})"
    if "Columns" not in header:
        raise ImageError(no_image)
    with room_for(int(header.Columns), int(header.Rows), each=_BYTES_EACH, beside=beside):
        data = dcmread(path, force=True)
        if not any(name in data for name in _PIXELS):
            raise ImageError(no_image)
        return _frame(data, frame)


def _inflated(path: Path) -> int:
    """Bytes that a deflated data set (PS3.5 A.5) becomes; 0 of another one.

    Raises:
        ImageError: more than `_MAX_INFLATED`.
    """
    from pydicom.errors import InvalidDicomError
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    try:
        meta = read_file_meta_info(path)
    except InvalidDicomError:  # no preamble: then nothing can say that it is deflated
        return 0
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return 0
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(_META_BEGINS + int(meta.FileMetaInformationGroupLength))
        while chunk := inflater.unconsumed_tail or file.read(2**16):
            size += len(inflater.decompress(chunk, 2**20))
            if size > _MAX_INFLATED:
                raise ImageError(f"inflates to more than {_MAX_INFLATED:,} bytes: bomb?")
    return size


def _frame(data: "FileDataset", number: int | None) -> tuple[Image, str, str]:
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    _check_decoder(data)
    frames = int(data.get("NumberOfFrames") or 1)
    number = frames // 2 if number is None else number
    _take_from_groups(data, number)
    values = pixel_array(data, index=number)
    kind = str(data.PhotometricInterpretation)
    mode = f"DICOM {kind}" + (f" frame {number + 1}/{frames}" if frames > 1 else "")
    patient = _patient(data)
    if kind == "PALETTE COLOR":
        values = apply_color_lut(values, data)
        whole = 2.0 ** int(data.RedPaletteColorLookupTableDescriptor[2]) - 1
        return to_rgb8(values[..., :3], limits=(0, whole)), mode, patient
    if values.ndim == 3:
        return as_rgb(values) if values.dtype == np.uint8 else to_rgb8(values), mode, patient
    return _display_grey(values, data, inverted=kind == "MONOCHROME1"), mode, patient


def _patient(data: "FileDataset") -> str:
    """Who the image is of, as a digest: what a header says of a person is never stored."""
    known = str(data.get("PatientID") or "").strip() or str(data.get("StudyInstanceUID") or "")
    return hashlib.sha256(known.encode()).hexdigest()[:16] if known else ""


def _check_decoder(data: "FileDataset") -> None:
    """Refuse a compression for which no plugin is installed, and name the plugins."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import ImplicitVRLittleEndian

    if "TransferSyntaxUID" not in data.file_meta:  # DICOM's default, PS3.5 10.1
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    syntax = data.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise ImageError(f"is DICOM of an unknown transfer syntax ({syntax.name})") from error
    if not decoder.is_available:
        plugins = "; or ".join(decoder.missing_dependencies)
        raise ImageError(f"is compressed DICOM ({syntax.name}) and {NEEDS_PLUGIN}: {plugins}")


def _take_from_groups(data: "FileDataset", frame: int) -> None:
    """Rescale and window of an enhanced object's frame, which stand in its functional groups.

    PS3.3 C.7.6.16.2.9 and C.7.6.16.2.10; the frame's own groups come before the shared ones.
    """
    groups = [*(data.get("PerFrameFunctionalGroupsSequence") or [])[frame : frame + 1]]
    groups += [*(data.get("SharedFunctionalGroupsSequence") or [])[:1]]
    for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
        found: Any = next((group[name].value[0] for group in groups if group.get(name)), [])
        for element in found:
            data[element.tag] = element


def _display_grey(values: NDArray[Any], data: "FileDataset", *, inverted: bool) -> Image:
    """Stored values of one frame as they are meant to be seen; padding is black."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing

    limits: tuple[float, float] | None = None
    meant: Callable[[NDArray[Any], FileDataset], NDArray[Any]] | None = None
    if data.get("VOILUTSequence"):
        meant = apply_voi
    elif _has_window(data):
        meant = apply_windowing
        # Values far outside the window come out as the ends of its output range.
        low, high = apply_windowing(np.array([-1e9, 1e9]), data)
        limits = float(low), float(high)
    elif apply_modality_lut(values[:1], data).dtype == np.uint8 and int(data.BitsStored) == 8:
        limits = 0, 255

    def shown(band: NDArray[Any]) -> NDArray[Any]:
        seen = apply_modality_lut(band, data)
        return _without_padding(band, meant(seen, data) if meant else seen, data)

    return to_rgb8(values, limits=limits, inverted=inverted, shown=shown)


def _without_padding(band: NDArray[Any], seen: NDArray[Any], data: "FileDataset") -> NDArray[Any]:
    """What is seen of stored values; nan of those that are no image but its surroundings.

    PS3.3 C.7.5.1.1.2.
    """
    first = data.get("PixelPaddingValue")
    if first is None:
        return seen
    low, high = sorted((int(first), int(data.get("PixelPaddingRangeLimit", first))))
    return np.where((band >= low) & (band <= high), np.nan, seen)


def _has_window(data: "FileDataset") -> bool:
    """Whether there is a window that shows anything: a width of 0 is a converter's blank."""
    centre, width = data.get("WindowCenter"), data.get("WindowWidth")
    if centre is None or width is None:
        return False
    widths = width if isinstance(width, (list, tuple)) or hasattr(width, "__iter__") else [width]
    return float(next(iter(widths), 0)) > 0
