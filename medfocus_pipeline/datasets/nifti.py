"""NIfTI files, by way of nibabel."""

from pathlib import Path
from typing import Any

import numpy as np

from medfocus_pipeline.datasets.pixels import to_rgb8
from medfocus_pipeline.datasets.room import room_for
from medfocus_pipeline.errors import ImageError
from medfocus_pipeline.types import Image

_BYTES_EACH = 24
"""That a pixel takes: as stored, scaled to float64, and as a picture."""


def decode_nifti(path: Path) -> tuple[Image, str]:
    """Picture and mode of a NIfTI file: a 2-D image, or the middle slice of a volume.

    The slice is across the third axis as stored, of the first volume of a series; the first
    axis runs to the right and the second one upwards. Values are scaled to the slice's own
    range, and what is not finite is black.

    Raises:
        ImageError: no NIfTI, or voxels that are no real numbers.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        image: Any = nibabel.load(path)
    except ImageFileError as error:
        raise ImageError("is not NIfTI, or not with a header that can be read") from error
    kind, shape = image.get_data_dtype(), image.shape
    if len(shape) < 2:
        raise ImageError(f"is NIfTI of {len(shape)} dimension(s), expected 2 or more")
    if kind.kind not in "iuf":
        raise ImageError(f"is NIfTI of {kind} voxels, expected real numbers")
    if 0 in shape:
        raise ImageError(f"has no pixels ({' x '.join(map(str, shape))})")
    # Only this slice is read from the file: slice before asarray.
    middle = [shape[2] // 2] if len(shape) > 2 else []
    with room_for(shape[0], shape[1], each=_BYTES_EACH):
        values = np.asarray(image.dataobj[(..., *middle, *[0] * (len(shape) - 3))])
        picture = to_rgb8(np.rot90(values))
    depth = f" slice {middle[0] + 1}/{shape[2]}" if middle and shape[2] > 1 else ""
    return picture, f"NIfTI {kind}{depth}"
