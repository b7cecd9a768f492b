"""NIfTI files, by way of nibabel."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from medfocus_pipeline.datasets.pixels import room_for, to_rgb8
from medfocus_pipeline.errors import ImageError
from medfocus_pipeline.types import Image

_MAX_UNPACKED = 2**31
"""Bytes of a volume whose name says nothing of its packing, above which it is refused."""

_NIFTI2 = (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
"""How a NIfTI-2 header begins: its size, 540."""

_BYTES_EACH = 24
"""That a pixel takes: as stored, scaled to float64, and as a picture."""


def decode_nifti(path: Path, number: int | None = None) -> tuple[Image, str]:
    """Picture and mode of a NIfTI file: a 2-D image, or the middle slice of a volume.

    A volume is seen in canonical orientation (RAS), whatever its scanner's: the slice is axial,
    of the first volume of a series, the patient's right on the right and the front on top. Where
    the header gives no orientation, it is across the third axis as stored. Values are scaled to
    the slice's own range, see `to_rgb8`, and what is not finite is black. What is packed is told
    by the content, not by the name.

    Args:
        path: of the file.
        number: of the slice, from 0 at the feet; None is the middle one.

    Raises:
        ImageError: no NIfTI, or voxels that are no real numbers.
    """
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        image: Any = _load(path)
    except (ImageFileError, HeaderDataError) as error:
        raise ImageError("is not NIfTI, or not with a header that can be read") from error
    kind, shape = image.get_data_dtype(), image.shape
    if len(shape) < 2:
        raise ImageError(f"is NIfTI of {len(shape)} dimension(s), expected 2 or more")
    if kind.kind not in "iuf":
        raise ImageError(f"is NIfTI of {kind} voxels, expected real numbers")
    if 0 in shape:
        raise ImageError(f"has no pixels ({' x '.join(map(str, shape))})")
    # Only this slice is read from the file: slice before asarray.
    axes, flips = _orientation(image)
    where: list[Any] = [slice(None)] * 2 + [0] * (len(shape) - 2)
    depth = ""
    if len(shape) > 2:
        across = axes[2]
        last = shape[across] - 1
        if number is None:
            stored = shape[across] // 2
        else:
            stored = last - number if flips[across] else number
        where[:3] = [slice(None)] * 3
        where[across] = stored
        place = last - stored if flips[across] else stored
        depth = f" slice {place + 1}/{last + 1}" if last else ""
    with room_for(shape[axes[0]], shape[axes[1]], each=_BYTES_EACH):
        values = np.asarray(image.dataobj[tuple(where)])
        if axes[0] > axes[1]:
            values = values.T
        for axis in (0, 1):
            values = np.flip(values, axis) if flips[axes[axis]] else values
        picture = to_rgb8(np.rot90(values))
    return picture, f"NIfTI {kind}{depth}"


def _load(path: Path) -> Any:
    """The image of a file that is packed or not, whatever it is called."""
    import nibabel

    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed == path.name.lower().endswith(".gz"):
        return nibabel.load(path)
    with path.open("rb") as file:
        stream: Any = gzip.GzipFile(fileobj=file) if packed else file
        content = stream.read(_MAX_UNPACKED + 1)
    if len(content) > _MAX_UNPACKED:
        raise ImageError(f"unpacks to more than {_MAX_UNPACKED:,} bytes: bomb?")
    kind = nibabel.Nifti2Image if content[:4] in _NIFTI2 else nibabel.Nifti1Image
    return kind.from_bytes(content)


def _orientation(image: Any) -> tuple[list[int], list[bool]]:
    """Stored axes that run to the patient's right, front and head, and which are reversed."""
    import nibabel

    codes = [int(image.header.get(name, 0)) for name in ("sform_code", "qform_code")]
    if len(image.shape) < 3 or not any(codes):
        return [0, 1, 2], [False] * 3
    found = nibabel.io_orientation(image.affine)  # type: ignore[no-untyped-call]
    if not np.isfinite(found).all():
        return [0, 1, 2], [False] * 3
    axes = [int(np.flatnonzero(found[:, 0] == axis)[0]) for axis in range(3)]
    return axes, [bool(way < 0) for way in found[:, 1]]
