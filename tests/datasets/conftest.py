"""Tiny data sets, built anew for each test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from medfocus_pipeline.datasets.card import Card, ClassCard

SaveImage = Callable[..., Path]

REAL_DATA = Path(__file__).parents[2] / ".." / "shared" / "data"


def write_dicom(path: Path, seed: int, **tags: str) -> None:
    """A grey picture of 8 x 8 pixels with these tags in its header."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.Rows = data.Columns = 8
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.PixelData = np.random.default_rng(seed).integers(0, 999, (8, 8), np.uint16).tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


@pytest.fixture
def save_image() -> SaveImage:
    """Writes a small picture that differs from every other one of the test."""
    count = 0

    def save(path: Path, *, size: tuple[int, int] = (8, 6)) -> Path:
        nonlocal count
        count += 1
        pixels = np.random.default_rng(count).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(pixels).save(path)
        return path

    return save


@pytest.fixture
def card() -> Card:
    """Two classes in an official split."""
    return Card(
        title="Cats and dogs",
        splits={"train": ("Training", "train"), "test": ("Testing", "test", "val")},
        classes=(
            ClassCard(name="cat", prompt="a cat", folders=("cats",)),
            ClassCard(name="dog", prompt="a dog"),
        ),
    )


@pytest.fixture
def folder(tmp_path: Path, save_image: SaveImage) -> Path:
    """Two images a class and split, in the layout of `card`."""
    root = tmp_path / "data"
    for split in ("Training", "Testing"):
        for name in ("cat", "dog"):
            for number in (1, 2):
                save_image(root / split / name / f"{number}.png")
    return root
