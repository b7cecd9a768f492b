"""Files that would fill the memory, and files that change under the reader's eyes."""

import io
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from medfocus_pipeline.datasets import contents as scanning
from medfocus_pipeline.datasets.card import load_card
from medfocus_pipeline.datasets.listing import read_listing
from medfocus_pipeline.datasets.pixels import KEPT_PIXELS, MAX_RATIO, Room, to_rgb8
from medfocus_pipeline.datasets.readers import decode, read_image
from medfocus_pipeline.datasets.scan import scan
from medfocus_pipeline.errors import ConfigError, DataError, ImageError
from medfocus_pipeline.profiles import load_profile
from tests.datasets.conftest import SaveImage

DEFLATED = "1.2.840.10008.1.2.1.99"  # PS3.5 A.5


def test_a_tiny_webp_of_a_huge_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.webp"
    head = struct.pack("<I", 16_383 | 16_383 << 14)  # a lossless bitstream's width and height
    path.write_bytes(b"RIFF" + struct.pack("<I", 17) + b"WEBPVP8L" + struct.pack("<I", 5) + b"\x2f")
    with path.open("ab") as file:
        file.write(head)
    assert path.stat().st_size == 25
    with pytest.raises(ImageError, match="bomb"):
        read_image(path)


@pytest.mark.parametrize("size", [(1, 40_000), (40_000, 1)])
def test_a_strip_is_no_picture(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "x.png"
    PIL.Image.new("L", size).save(path)
    with pytest.raises(ImageError, match=f"too narrow .*{MAX_RATIO} times"):
        read_image(path)


def test_a_picture_larger_than_any_model_looks_at_is_averaged(tmp_path: Path) -> None:
    path = tmp_path / "x.bmp"
    rows = np.zeros((4000, 5000), np.uint8)
    rows[::2, ::2] = 200
    PIL.Image.fromarray(rows).save(path)
    pixels = read_image(path)
    assert pixels.shape == (2000, 2500, 3)
    assert pixels.shape[0] * pixels.shape[1] <= KEPT_PIXELS
    assert set(np.unique(pixels)) == {50}


def test_many_values_are_scaled_as_few_are() -> None:
    values = np.random.default_rng(0).normal(size=(3000, 1000))
    values[17, 3], values[2900, 5] = np.nan, np.inf
    known = values[np.isfinite(values)]
    low, high = known.min(), known.max()
    expected = np.rint(np.clip((values - low) / (high - low), 0, 1) * 255)
    expected[~np.isfinite(values)] = 0
    np.testing.assert_array_equal(to_rgb8(values)[..., 0], expected.astype(np.uint8))


def test_a_deflated_bomb_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = DEFLATED
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = 2, 3
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = bytes([0, 50, 100, 150, 200, 250])
    path = tmp_path / "x.dcm"
    pydicom.dcmwrite(path, data, enforce_file_format=True)
    assert read_image(path)[..., 0].tolist() == [[0, 50, 100], [150, 200, 250]]

    whole = path.read_bytes()
    start = 144 + struct.unpack("<I", whole[140:144])[0]
    deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = b"".join(deflater.compress(bytes(2**24)) for _ in range(17)) + deflater.flush()
    path.write_bytes(whole[:start] + body)
    with pytest.raises(ImageError, match="inflates to more than"):
        read_image(path)


def test_threads_share_the_room_and_a_large_one_has_it_alone() -> None:
    room, inside, most = Room(10), 0, 0
    lock = threading.Lock()

    def work(wanted: int) -> None:
        nonlocal inside, most
        with room.take(wanted):
            with lock:
                inside += min(wanted, 10)
                most = max(most, inside)
            with lock:
                inside -= min(wanted, 10)

    threads = [threading.Thread(target=work, args=(n % 25 + 1,)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert not any(thread.is_alive() for thread in threads)
    assert 0 < most <= 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x\n", r"the alias \*x is not followed"),
        ("[" * 100_000, "nested more than 32 deep"),
        ("a: " * 50_000, "is not YAML"),
        ("#" * 2**21, "2,097,152 characters, at most"),
        ("a: 2024-13-45\n", "is not YAML: month"),
    ],
)
def test_yaml_that_does_harm_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_card(path)
    with pytest.raises(ConfigError, match=message):
        load_profile(str(path))


def test_a_file_of_the_year_2300_is_scanned(tmp_path: Path, save_image: SaveImage) -> None:
    for name in ("a", "b"):
        save_image(tmp_path / name / "x.png")
    os.utime(tmp_path / "a" / "x.png", (10_413_792_000, 10_413_792_000))
    assert len(scan(tmp_path, name="late").files) > 0


def test_a_nul_in_a_listed_path_is_that_lines_problem(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("path,label\na\0b.png,cat\n" + "x" * 300 + ".png,dog\n")
    with pytest.raises(DataError, match=r"line 2: no file 'a\\x00b.png'.*\n.*line 3: no file 'xxx"):
        read_listing(path, None, root=tmp_path, columns={})


def test_a_passing_error_is_not_remembered(
    tmp_path: Path, save_image: SaveImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        save_image(tmp_path / name / "x.png")

    def refuse(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("medfocus_pipeline.datasets.readers.raster_kind", refuse)
        before = scan(tmp_path, name="pets")
    assert [why for _, why in before.problems] == ["cannot be read: Permission denied"] * 2
    assert scan(tmp_path, name="pets", previous=before).problems == []


def test_a_file_that_changes_while_it_is_scanned_has_no_id(
    tmp_path: Path, save_image: SaveImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        save_image(tmp_path / name / "x.png")

    def rewrite(path: Path, number: int | None) -> object:
        if path.parent.name == "a":
            other = io.BytesIO()
            PIL.Image.new("L", (9, 9)).save(other, "PNG")
            path.with_name("new").write_bytes(other.getvalue())
            path.with_name("new").replace(path)
        return decode(path, number)

    monkeypatch.setattr(scanning, "decode", rewrite)
    manifest = scan(tmp_path, name="pets")
    assert manifest.problems == [("a/x.png", "cannot be read: it was changed meanwhile")]
    assert manifest.image_ids[0] == ""
