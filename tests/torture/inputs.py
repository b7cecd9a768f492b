"""Hostile files of every kind that users bring, one at a time, in little memory.

Images that are cut off, changed, or lie about their size; cards, profiles, studies, tables,
features, checkpoints and exported classifiers that are none.
"""

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from medfocus_pipeline.classifier.pack import read_pack
from medfocus_pipeline.config import (
    EfficientNetLiteConfig,
    FeaturesConfig,
    LiteClipConfig,
    Runtime,
    TimmConfig,
)
from medfocus_pipeline.datasets.card import load_card
from medfocus_pipeline.datasets.listing import read_listing
from medfocus_pipeline.datasets.readers import read_image
from medfocus_pipeline.datasets.study_card import find_study
from medfocus_pipeline.encoders import find_weights, load_encoder
from medfocus_pipeline.errors import MedFocusError
from medfocus_pipeline.profiles import load_profile
from medfocus_pipeline.segmenters.sam_adapter import read_metadata
from medfocus_pipeline.weights import FileHashes, local_weights
from tests.torture.trial import HARMLESS, REFUSED, TRACEBACK, Counts, forked

_MEMORY = 2 * 1024**3
_SECONDS = 60

Input = tuple[str, bytes, Callable[[Path], object]]
"""Name of a file, its content, and what reads it."""


def inputs(root: Path, count: int, rng: np.random.Generator) -> Counts:
    """Read hostile files; each is read, or refused in a sentence."""
    counts, log, folder = Counts(), root / "log", root / "hostile"
    folder.mkdir(exist_ok=True)
    fixed, seeds = crafted(), samples(root)
    for number in range(count):
        if number < len(fixed):
            name, content, read = fixed[number]
        else:
            name, whole, read = seeds[number % len(seeds)]
            content = damaged(whole, rng)
        path = folder / name
        path.write_bytes(content)
        code = forked(partial(_read, read, path), log, memory=_MEMORY, seconds=_SECONDS)
        outcome = {0: HARMLESS, 1: REFUSED}.get(code, TRACEBACK)
        counts.note(outcome, f"input {number}, {name}: {code}, {log.read_text()[-700:]}")
        path.unlink()
    return counts


def _read(read: Callable[[Path], object], path: Path) -> int:
    try:
        read(path)
    except MedFocusError as error:
        print(error)
        return 1
    return 0


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """A file cut off, or with some bytes of its head or of all of it changed."""
    how = int(rng.integers(3))
    if how == 0:
        return whole[: int(rng.integers(len(whole)))]
    content = bytearray(whole)
    reach = min(len(content), 64 if how == 1 else len(content))
    for place in rng.integers(reach, size=3):
        content[place] = rng.integers(256)
    return bytes(content)


def samples(root: Path) -> list[Input]:
    """Good files, to be damaged.

    Args:
        root: with or without a finished ``pack``.
    """
    grey = np.random.default_rng(0).integers(0, 256, (40, 56), np.uint8)
    found: list[Input] = []
    formats = {
        "png": "PNG",
        "jpg": "JPEG",
        "tif": "TIFF",
        "webp": "WEBP",
        "bmp": "BMP",
        "gif": "GIF",
        "jp2": "JPEG2000",
        "pgm": "PPM",
    }
    for ending, name in formats.items():
        target = io.BytesIO()
        Image.fromarray(grey).save(target, name)
        found.append((f"x.{ending}", target.getvalue(), read_image))
    for compression in ("tiff_deflate", "tiff_lzw", "packbits"):
        target = io.BytesIO()
        Image.fromarray(grey.astype(np.uint16)).save(target, "TIFF", compression=compression)
        found.append(("x.tif", target.getvalue(), read_image))
    nifti = _nifti(np.zeros((20, 20, 4), np.int16))
    found += [
        ("x.dcm", _dicom(grey, "1.2.840.10008.1.2.1"), read_image),
        ("x.dcm", _dicom(grey, _DEFLATED), read_image),
        ("x.nii", nifti, read_image),
        ("x.nii.gz", gzip.compress(nifti), read_image),
        ("card.yaml", (_ROOT / "data" / "brain.yaml").read_bytes(), _card),
        ("x.yaml", (_PROFILES / "offline.yaml").read_bytes(), _profile),
        ("x.csv", b"path,label,split\na.png,one,train\nb.png,two,test\n", _listing),
        ("study.yaml", (_ROOT / "data" / "pneumonia.yaml").read_bytes(), _study),
        ("x.npy", _npy(np.ones((2, 3), np.float32)), _features),
        ("x.parquet", _parquet(), _features),
    ]
    for name in ("config.json", "model.safetensors") if (root / "pack").is_dir() else ():
        content = (root / "pack" / name).read_bytes()
        found.append((name, content, partial(_pack, root / "pack")))
    return found


def crafted() -> list[Input]:
    """Files that were written to do harm."""
    deep = b"[" * 100_000
    bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n".encode()
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    found: list[Input] = [
        ("x.webp", _webp(16_383, 16_383), read_image),
        ("x.webp", _webp(16_384, 16_384)[:25], read_image),
        *(("x.png", _png(*size), read_image) for size in _SIZES),
        *(("x.bmp", _bmp(*size), read_image) for size in _SIZES),
        *(("x.tif", _tiff(*size), read_image) for size in _SIZES),
        *(("x.nii", _nifti_header(*size), read_image) for size in _SIZES),
        ("x.nii.gz", gzip.compress(_nifti_header(9000, 9000) + bytes(2**24)), read_image),
        ("x.dcm", _deflated_bomb(), read_image),
        ("x.png", b"", read_image),
        ("x.dcm", bytes(128) + b"DICM", read_image),
    ]
    for text in (
        deep,
        bomb,
        b"{" * 100_000,
        b"a: " * 50_000,
        b"\xff\xfe",
        b"a: b: c",
        b"- &x [*x]",
    ):
        found += [("card.yaml", text, _card), ("x.yaml", text, _profile)]
        found.append(("study.yaml", text, _study))
    for text in (deep, b"path,label\n" + b"x" * 300_000, b"\0" * 1000, b'path,label\n"a'):
        found.append(("x.csv", text, _listing))
    for text in (deep, b"{}", b"", b"PK\x03\x04" + bytes(100), struct.pack("<Q", 2**62) + b"{}"):
        found += [
            ("config.json", text, _pack_folder),
            ("x.safetensors", text, read_metadata),
            ("x.safetensors", text, _timm),
            ("x.pth", text, _timm),
            ("config.json", text, _lite_clip),
            ("x.pth", text, _efficientnet),
            ("x.npy", text, _features),
            ("x.parquet", text, _features),
        ]
    numbers = np.ones((2, 3), np.float32)
    return [
        *found,
        ("x.npy", _npy(np.array([[object()], [0]], object)), _features),
        ("x.npy", _npy(np.full((2, 3), np.nan, np.float32)), _features),
        ("x.npy", _npy(numbers).replace(b"(2, 3)", b"(9**9,"), _features),
        ("x.npy", _npy(numbers).replace(b"(2, 3), }", b"(20000000000000, 3), }"), _features),
    ]


_DEFLATED = "1.2.840.10008.1.2.1.99"

_ROOT = Path(__file__).parents[2]
_PROFILES = _ROOT / "medfocus_pipeline" / "profiles"

_SIZES = ((1, 40_000), (40_000, 1), (9400, 9400), (30_000, 30_000), (2**31 - 1, 2**31 - 1), (0, 5))


def _card(path: Path) -> object:
    return load_card(path)


def _profile(path: Path) -> object:
    return load_profile(str(path))


def _listing(path: Path) -> object:
    return read_listing(path, None, root=path.parent, columns={})


def _study(path: Path) -> object:
    return find_study(str(path))


def _features(path: Path) -> object:
    """Of two images whose names lie beside the file."""
    path.with_suffix(".txt").write_text("a.png\nb.png\n")
    config = FeaturesConfig(file=path)
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    return load_encoder(config, weights, Runtime(device="cpu"))


def _pack(good: Path, path: Path) -> object:
    """An exported classifier of which one file is another."""
    for other in good.iterdir():
        if other.name != path.name:
            path.with_name(other.name).write_bytes(other.read_bytes())
    return read_pack(path.parent)


def _pack_folder(path: Path) -> object:
    return read_pack(path.parent)


def _timm(path: Path) -> object:
    config = TimmConfig(model="resnet18", checkpoint=path)
    weights = find_weights(config, FileHashes(), download=False)
    assert weights is not None
    return load_encoder(config, weights, Runtime(device="cpu"))


def _efficientnet(path: Path) -> object:
    config = EfficientNetLiteConfig()
    good = find_weights(config, FileHashes(), download=False)
    assert good is not None
    weights = local_weights("x", dict.fromkeys(good.paths, path), hashes=FileHashes())
    return load_encoder(config, weights, Runtime(device="cpu"))


def _lite_clip(path: Path) -> object:
    config = LiteClipConfig()
    good = find_weights(config, FileHashes(), download=False)
    assert good is not None
    paths = good.paths | {name: path for name in good.paths if name.endswith("config.json")}
    weights = local_weights("x", paths, hashes=FileHashes())
    return load_encoder(config, weights, Runtime(device="cpu"))


def _npy(rows: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.save(target, rows, allow_pickle=True)
    return target.getvalue()


def _parquet() -> bytes:
    target = pa.BufferOutputStream()
    rows = {"path": ["a.png", "b.png"], "feature": [[1.0, 2.0], [3.0, 4.0]]}
    pq.write_table(pa.table(rows), target)
    return bytes(target.getvalue())


def _png(width: int, height: int) -> bytes:
    """Black, as large as it says if that is not absurd."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = zlib.compress(bytes(min((width + 1) * height, 2**27)))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _bmp(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 100, 0, 0, 54) + head + bytes(100)


def _tiff(width: int, height: int) -> bytes:
    """One deflated strip of grey, as large as it says if that is not absurd."""
    strip = zlib.compress(bytes(min(width * height, 2**27)))
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 8),
        (259, 3, 8),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(strip)),
    ]
    table = struct.pack("<H", len(entries))
    table += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + table + struct.pack("<I", 0)


def _webp(width: int, height: int) -> bytes:
    """A lossless picture's head alone."""
    bits = (width - 1) | (height - 1) << 14
    data = b"\x2f" + struct.pack("<I", bits & 2**32 - 1)
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def _nifti(voxels: np.ndarray) -> bytes:
    import nibabel

    return bytes(nibabel.Nifti1Image(voxels, np.eye(4)).to_bytes())


def _nifti_header(width: int, height: int) -> bytes:
    content = bytearray(_nifti(np.zeros((2, 2), np.float32)))
    content[40:48] = struct.pack("<hHHH", 2, width % 2**15, height % 2**15, 1)
    return bytes(content)


def _dicom(grey: np.ndarray, syntax: str) -> bytes:
    from pydicom import dcmwrite
    from pydicom.dataset import Dataset, FileMetaDataset

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = grey.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelData = grey.tobytes()
    target = io.BytesIO()
    dcmwrite(target, data, enforce_file_format=True)
    return target.getvalue()


def _deflated_bomb() -> bytes:
    """A DICOM of 2 MB that becomes 2 GB."""
    small = _dicom(np.zeros((4, 4), np.uint8), _DEFLATED)
    start = 128 + 4 + 12 + struct.unpack("<I", small[140:144])[0]
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = b"".join(deflater.compress(bytes(2**24)) for _ in range(128)) + deflater.flush()
    return small[:start] + body
