"""DICOM and NIfTI."""

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, SecondaryCaptureImageStorage

from medfocus_pipeline.datasets.readers import decode, read_image
from medfocus_pipeline.errors import ImageError


def _dicom(values: np.ndarray, kind: str = "MONOCHROME2", **elements: Any) -> Dataset:
    """A data set around grey frames ``(h, w)`` or ``(f, h, w)``, or colour ``(h, w, 3)``."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    colour = kind in {"RGB", "YBR_FULL"}
    data.SamplesPerPixel, data.PhotometricInterpretation = 3 if colour else 1, kind
    if colour:
        data.PlanarConfiguration = 0
    elif values.ndim == 3:
        data.NumberOfFrames = len(values)
    data.Rows, data.Columns = values.shape[:2] if colour else values.shape[-2:]
    data.BitsAllocated = data.BitsStored = values.dtype.itemsize * 8
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(values.dtype.kind == "i")
    data.PixelData = values.tobytes()
    for name, value in elements.items():
        setattr(data, name, value)
    return data


def _save(path: Path, data: Dataset) -> Path:
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    return path


def _grey(path: Path, data: Dataset) -> list[int]:
    """First row of the picture that a data set becomes."""
    row: list[int] = read_image(_save(path, data))[0, :, 0].tolist()
    return row


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.dcm"


def test_deep_dicom_is_scaled_to_its_own_range(path: Path) -> None:
    values = np.array([[100, 600, 1100]], dtype=np.uint16)
    assert _grey(path, _dicom(values)) == [0, 128, 255]
    assert decode(path).mode == "DICOM MONOCHROME2"


def test_eight_bit_dicom_stays_as_it_is(path: Path) -> None:
    assert _grey(path, _dicom(np.array([[10, 20, 30]], dtype=np.uint8))) == [10, 20, 30]


def test_monochrome1_is_inverted(path: Path) -> None:
    assert _grey(path, _dicom(np.array([[0, 5, 255]], np.uint8), "MONOCHROME1")) == [255, 250, 0]
    values = np.array([[100, 1100]], dtype=np.uint16)
    assert _grey(path, _dicom(values, "MONOCHROME1")) == [255, 0]


def test_rescale_comes_before_the_window(path: Path) -> None:
    # Stored 0, 1000, 2000, 4000 are -1000, 0, 1000, 3000 HU; the window shows -500 to 500.
    values = np.array([[0, 1000, 2000, 4000]], dtype=np.uint16)
    window = {"WindowCenter": 0, "WindowWidth": 1001}
    rescale = {"RescaleSlope": 1, "RescaleIntercept": -1000}
    assert _grey(path, _dicom(values, **rescale, **window)) == [0, 128, 255, 255]


def test_image_inside_its_window_is_not_stretched(path: Path) -> None:
    values = np.array([[400, 600]], dtype=np.uint16)
    low, high = _grey(path, _dicom(values, WindowCenter=[500, 1], WindowWidth=[1001, 1]))
    assert (low, high) == (102, 153)


def test_voi_lut_wins_over_the_window(path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor = [4, 0, 16]
    item.LUTData = [0, 65535, 0, 65535]
    values = np.array([[0, 1, 2, 3]], dtype=np.uint16)
    data = _dicom(values, VOILUTSequence=[item], WindowCenter=1, WindowWidth=2)
    data["VOILUTSequence"].value[0]["LUTDescriptor"].VR = "US"
    data["VOILUTSequence"].value[0]["LUTData"].VR = "US"
    assert _grey(path, data) == [0, 255, 0, 255]


def test_middle_frame_is_taken_and_stated(path: Path) -> None:
    values = np.stack([np.full((2, 3), n, dtype=np.uint8) for n in range(5)])
    assert _grey(path, _dicom(values)) == [2, 2, 2]
    assert decode(path).mode == "DICOM MONOCHROME2 frame 3/5"


@pytest.mark.parametrize(
    ("kind", "stored", "shown"),
    [("RGB", (200, 30, 20), (200, 30, 20)), ("YBR_FULL", (128, 128, 128), (128, 128, 128))],
)
def test_colour_dicom_is_rgb(
    path: Path, kind: str, stored: tuple[int, ...], shown: tuple[int, ...]
) -> None:
    _save(path, _dicom(np.full((2, 3, 3), stored, dtype=np.uint8), kind))
    assert (read_image(path) == shown).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_constant_dicom_divides_by_nothing(path: Path, dtype: type, kind: str) -> None:
    assert read_image(_save(path, _dicom(np.zeros((2, 2), dtype), kind))).shape == (2, 2, 3)


def test_dicom_is_known_by_its_mark_and_not_by_its_name(tmp_path: Path) -> None:
    data = _dicom(np.array([[7]], dtype=np.uint8))
    assert _grey(tmp_path / "IM0001", data) == [7]
    with pytest.raises(ImageError, match="is no image"):
        (tmp_path / "text.dcm").write_text("hello")
        read_image(tmp_path / "text.dcm")


def test_compression_without_a_decoder_names_the_plugins(path: Path) -> None:
    data = _dicom(np.zeros((2, 2), np.uint8))
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    data["PixelData"].VR = "OB"
    data.file_meta.TransferSyntaxUID = JPEGLSLossless
    with pytest.raises(ImageError, match=r"JPEG-LS.*needs a decoder plugin: .*pylibjpeg"):
        read_image(_save(path, data))


def test_dicom_without_an_image_is_refused(path: Path) -> None:
    data = _dicom(np.zeros((2, 2), np.uint8), Modality="SR")
    del data.PixelData
    with pytest.raises(ImageError, match=r"without an image \(SR\)"):
        read_image(_save(path, data))


def test_truncated_dicom_is_refused(path: Path) -> None:
    content = _save(path, _dicom(np.zeros((32, 32), np.uint16))).read_bytes()
    path.write_bytes(content[:-700])
    with pytest.raises(ImageError, match=r"damaged|cannot be read"):
        read_image(path)


def test_dicom_bomb_is_refused_before_it_is_decoded(path: Path) -> None:
    data = _dicom(np.zeros((2, 2), np.uint8), Rows=60_000, Columns=60_000)
    with pytest.raises(ImageError, match="too large"):
        read_image(_save(path, data))


def test_overlay_bits_above_those_stored_are_no_values(path: Path) -> None:
    values = np.array([[0, 2048, 4095]], np.uint16)
    plain = _grey(path, _dicom(values, BitsStored=12, HighBit=11))
    overlaid = values | np.array([[1 << 15, 1 << 12, 0]], np.uint16)
    assert _grey(path, _dicom(overlaid, BitsStored=12, HighBit=11)) == plain == [0, 128, 255]
    signed = np.array([[-2048, 0, 2047]], np.int16)
    assert _grey(path, _dicom(signed & 0x0FFF, BitsStored=12, HighBit=11)) == [0, 128, 255]


def test_a_palette_of_16_bits_is_not_stretched(path: Path) -> None:
    data = _dicom(np.array([[0, 1]], np.uint8), "PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(data, f"{colour}PaletteColorLookupTableDescriptor", [2, 0, 16])
        data[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
        levels = np.array([0x4000, 0x8000], np.uint16)
        setattr(data, f"{colour}PaletteColorLookupTableData", levels.tobytes())
    assert _grey(path, data) == [64, 128]


@pytest.mark.parametrize(
    ("name", "dtype"), [("FloatPixelData", np.float32), ("DoubleFloatPixelData", np.float64)]
)
def test_pixels_of_real_numbers_are_read(path: Path, name: str, dtype: type) -> None:
    values = np.array([[-0.5, 0.0, 0.5]], dtype)
    data = _dicom(values)
    del data.PixelData, data.BitsStored, data.HighBit, data.PixelRepresentation
    setattr(data, name, values.tobytes())
    assert _grey(path, data) == [0, 128, 255]


def test_a_dicom_segmentation_is_no_image(path: Path) -> None:
    data = _dicom(np.array([[1, 0]], np.uint8), Modality="SEG", BitsAllocated=1, BitsStored=1)
    data.HighBit, data.PixelData = 0, b"\x01\x00"
    with pytest.raises(ImageError, match="is a DICOM segmentation"):
        decode(_save(path, data))


def _nifti(path: Path, values: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    return path


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_middle_slice_is_taken_and_stated(tmp_path: Path, ending: str) -> None:
    values = np.zeros((4, 3, 5), dtype=np.int16)
    values[3, 0, 2] = 900  # largest first, smallest second index: bottom right
    path = _nifti(tmp_path / f"x.{ending}", values)
    image = read_image(path)
    assert decode(path).mode == "NIfTI int16 slice 3/5"
    assert (image.shape, image.flags.c_contiguous) == ((3, 4, 3), True)
    assert np.argwhere(image[..., 0] == 255).tolist() == [[2, 3]]


def test_first_volume_of_a_series_is_taken(tmp_path: Path) -> None:
    values = np.zeros((2, 2, 3, 2), dtype=np.float32)
    values[0, 0, 1, 0], values[..., 1] = 1, 7
    assert read_image(_nifti(tmp_path / "x.nii", values)).max() == 255
    assert decode(tmp_path / "x.nii").mode == "NIfTI float32 slice 2/3"


def test_flat_nifti_states_no_slice(tmp_path: Path) -> None:
    path = _nifti(tmp_path / "x.nii", np.arange(6, dtype=np.uint8).reshape(2, 3))
    assert decode(path).mode == "NIfTI uint8"
    assert read_image(path)[..., 0].tolist() == [[102, 255], [51, 204], [0, 153]]


def test_voxels_that_are_not_finite_are_black(tmp_path: Path) -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 2, 4]], dtype=np.float32)
    image = read_image(_nifti(tmp_path / "x.nii", values))
    assert image[::-1, 0, 0].tolist() == [0, 0, 0, 0, 255]
    constant = np.full((2, 2), np.nan, dtype=np.float32)
    assert read_image(_nifti(tmp_path / "y.nii", constant)).max() == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.nii", b"not a header"),
        ("x.nii.gz", b"not gzip"),
        ("x.nii.gz", gzip.compress(b"not a header", mtime=0)),
    ],
)
def test_what_is_no_nifti_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=r"NIfTI|cannot be read|damaged"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_truncated_nifti_is_refused(tmp_path: Path, ending: str) -> None:
    rng = np.random.default_rng(0)
    path = _nifti(tmp_path / f"x.{ending}", rng.integers(0, 9, (32, 32, 9)).astype(np.int16))
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ImageError, match=r"cannot be read|damaged"):
        read_image(path)


def test_complex_nifti_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="complex64 voxels"):
        read_image(_nifti(tmp_path / "x.nii", np.zeros((2, 2), dtype=np.complex64)))
