"""DICOM files, by way of pydicom."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medfocus_pipeline.datasets.pixels import as_rgb, check_size, to_rgb8
from medfocus_pipeline.errors import ImageError
from medfocus_pipeline.types import Image

if TYPE_CHECKING:
    from pydicom import FileDataset

NEEDS_PLUGIN = "needs a decoder plugin"
"""Part of the message about a compression that could be decoded once a plugin is installed."""


def decode_dicom(path: Path) -> tuple[Image, str, str]:
    """Picture, mode and patient (a digest) of a DICOM file; of several frames the middle one.

    The modality LUT or rescale comes first, then the VOI LUT or else the first window, then
    MONOCHROME1 is inverted (PS3.3 C.11.1, C.11.2, C.7.6.3.1.2). Grey values are scaled from
    the window's output range; without a window from 8 bits as they are, from more bits to the
    image's own range.

    Raises:
        ImageError: no DICOM, no image in it, or a compression that cannot be decoded here.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    try:
        data = dcmread(path)
    except InvalidDicomError as error:
        raise ImageError("is not DICOM: no DICM mark after its preamble") from error
    if "PixelData" not in data:
        raise ImageError(f"is DICOM without an image ({data.get('Modality', 'no modality')})")
    check_size(int(data.Columns), int(data.Rows))
    _check_decoder(data)
    frames = int(data.get("NumberOfFrames") or 1)
    values = pixel_array(data, index=frames // 2)
    kind = str(data.PhotometricInterpretation)
    mode = f"DICOM {kind}" + (f" frame {frames // 2 + 1}/{frames}" if frames > 1 else "")
    patient = _patient(data)
    if kind == "PALETTE COLOR":
        values = apply_color_lut(values, data)
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


def _display_grey(values: NDArray[Any], data: "FileDataset", *, inverted: bool) -> Image:
    """Stored values of one frame as they are meant to be seen."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing

    shown = apply_modality_lut(values, data)
    if data.get("VOILUTSequence"):
        return to_rgb8(apply_voi(shown, data), inverted=inverted)
    if data.get("WindowWidth") is not None and data.get("WindowCenter") is not None:
        # Values far outside the window come out as the ends of its output range.
        low, high = apply_windowing(np.array([-1e9, 1e9]), data)
        windowed = apply_windowing(shown, data)
        return to_rgb8(windowed, limits=(float(low), float(high)), inverted=inverted)
    as_stored = shown.dtype == np.uint8 and int(data.BitsStored) == 8
    return to_rgb8(shown, limits=(0, 255) if as_stored else None, inverted=inverted)
