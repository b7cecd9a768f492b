"""Every depth, orientation and packing of a picture comes out as the same picture."""

import gzip
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest
import tifffile

from medfocus_pipeline.datasets.readers import decode, read_image
from medfocus_pipeline.datasets.tree import find_images, other_kinds, walk

SEEN = np.linspace(0, 1, 48 * 40).reshape(48, 40)
DEEP = (SEEN * 4095).astype(np.uint16)  # 12 bits in 16


def shown(path: Path) -> np.ndarray:
    """What is read, in [0, 1]."""
    found: np.ndarray = read_image(path)[..., 0] / 255
    return found


def png16(path: Path, values: np.ndarray, kind: int) -> Path:
    """A PNG of 16 bits a sample by its specification; Pillow cannot write one of colour."""

    def chunk(tag: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.parametrize(("kind", "samples"), [(2, 3), (4, 2), (6, 4)])
def test_colour_of_16_bits_keeps_its_low_byte(tmp_path: Path, kind: int, samples: int) -> None:
    values = np.repeat(DEEP[..., None], samples, axis=2)
    if samples in {2, 4}:
        values[..., -1] = 65535
    found = shown(png16(tmp_path / "x.png", values, kind))
    np.testing.assert_allclose(found, SEEN, atol=0.01)


def test_what_is_clear_is_black_and_does_not_set_the_contrast(tmp_path: Path) -> None:
    values = np.stack([DEEP, np.full_like(DEEP, 65535)], axis=2)
    values[:10] = (65535, 0)
    found = shown(png16(tmp_path / "x.png", values, 4))
    assert found[:10].max() == 0
    assert found[10:].max() == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32, np.float64])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_film_whose_white_is_zero_is_turned(tmp_path: Path, dtype: type, photometric: str) -> None:
    inverted = photometric == "miniswhite"
    most = 1.0 if np.issubdtype(dtype, np.floating) else float(np.iinfo(dtype).max)
    values = ((1 - SEEN if inverted else SEEN) * most).astype(dtype)
    tifffile.imwrite(tmp_path / "x.tif", values, photometric=photometric)
    np.testing.assert_allclose(shown(tmp_path / "x.tif"), SEEN, atol=0.01)


def test_one_hot_voxel_leaves_the_others_their_grey_levels(tmp_path: Path) -> None:
    values = DEEP.copy()
    values[0, 0] = 65535
    tifffile.imwrite(tmp_path / "x.tif", values)
    assert len(np.unique(read_image(tmp_path / "x.tif"))) > 200


def test_ink_on_a_clear_page_is_seen_and_alpha_of_zero_is_not_meant(tmp_path: Path) -> None:
    ink = np.zeros((30, 30, 4), np.uint8)
    ink[10:20, 10:20, 3] = 255
    PIL.Image.fromarray(ink).save(tmp_path / "ink.png")
    assert np.ptp(read_image(tmp_path / "ink.png")) == 255
    clear = np.repeat((SEEN * 255).astype(np.uint8)[..., None], 4, axis=2)
    clear[..., 3] = 0
    PIL.Image.fromarray(clear).save(tmp_path / "clear.png")
    np.testing.assert_allclose(shown(tmp_path / "clear.png"), SEEN, atol=0.01)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "ASL", "SRA"])
def test_a_volume_is_seen_alike_in_every_orientation(tmp_path: Path, codes: str) -> None:
    """nibabel turns the volume and its affine; the anatomy stays where it is."""
    volume = np.random.default_rng(0).integers(0, 1000, (6, 8, 5)).astype(np.int16)
    plain = nibabel.Nifti1Image(volume, np.eye(4))
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(plain.affine), nibabel.orientations.axcodes2ornt(codes)
    )
    nibabel.save(plain, tmp_path / "plain.nii.gz")
    nibabel.save(plain.as_reoriented(turn), tmp_path / "turned.nii.gz")
    one, other = (decode(tmp_path / f"{name}.nii.gz") for name in ("plain", "turned"))
    np.testing.assert_array_equal(other.pixels, one.pixels)
    assert other.mode == one.mode == "NIfTI int16 slice 3/5"


@pytest.mark.parametrize("name", ["not_packed.nii.gz", "packed.nii"])
def test_what_is_packed_is_told_by_the_content(tmp_path: Path, name: str) -> None:
    volume = np.repeat((SEEN * 900).astype(np.int16)[..., None], 3, axis=2)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "good.nii")
    content = (tmp_path / "good.nii").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name == "packed.nii" else content)
    expected = read_image(tmp_path / "good.nii")
    np.testing.assert_array_equal(read_image(tmp_path / name), expected)


def test_the_content_decides_what_is_an_image_and_the_rest_is_counted(tmp_path: Path) -> None:
    picture = PIL.Image.fromarray((SEEN * 255).astype(np.uint8))
    for name, kind in (("a.jfif", "JPEG"), ("b.pgm", "PPM"), ("c.jp2", "JPEG2000"), ("d", "PNG")):
        picture.save(tmp_path / name, kind)
    picture.save(tmp_path / "e.gif")
    np.save(tmp_path / "f.npy", SEEN)
    (tmp_path / "g.txt").write_text("notes")
    for system in ("@eaDir", "$RECYCLE.BIN", "lost+found", "System Volume Information", "__MACOSX"):
        (tmp_path / system).mkdir()
        picture.save(tmp_path / system / "thumbnail.png")
    found = [file.path for file in find_images(tmp_path)]
    assert found == ["a.jfif", "b.pgm", "c.jp2", "d", "e.gif"]
    assert all(decode(tmp_path / path).pixels.shape == (48, 40, 3) for path in found)
    assert other_kinds(tmp_path) == {".npy": 1, ".txt": 1}


def test_a_folder_of_many_files_comes_in_parts(tmp_path: Path) -> None:
    names = [f"{number:05d}.png" for number in range(10_500)]
    for name in names:
        (tmp_path / name).touch()
    parts = [[file.path for file in files] for files in walk(tmp_path)]
    assert [len(one) for one in parts] == [10_000, 500]
    assert [name for one in parts for name in one] == names


def test_other_kinds_are_neither_hidden_nor_images_nor_what_links_lead_to(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    (folder / "@eaDir").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    dicom = bytes(128) + b"DICM"
    jpeg = b"\xff\xd8\xff"
    for name, content in {
        "IM0001": dicom,
        "z.jfif": jpeg,
        **dict.fromkeys(("notes", "x.PNG", "x.txt", ".x", "é.png", "Thumbs.db", "z.npy"), b""),
        **dict.fromkeys(("@eaDir/y.txt", ".hidden/y.txt"), b""),
    }.items():
        (folder / name).write_bytes(content)
    (tmp_path / "inner").symlink_to(folder)
    (tmp_path / "link.txt").symlink_to(folder / "x.txt")
    (tmp_path / "outer").symlink_to("/")
    images = {file.path for files in walk(tmp_path) for file in files}
    assert images == {f"a/b/{name}" for name in ("IM0001", "x.PNG", "z.jfif", "é.png")} | {"outer"}
    # notes, x.txt and link.txt, Thumbs.db, z.npy
    assert other_kinds(tmp_path) == {"no ending": 1, ".txt": 2, ".db": 1, ".npy": 1}
