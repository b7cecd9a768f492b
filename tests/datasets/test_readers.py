"""Raster images, and annotations."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medfocus_pipeline.datasets import readers
from medfocus_pipeline.datasets.pixels import MAX_PIXELS, to_rgb8
from medfocus_pipeline.datasets.readers import decode, read_annotation, read_image
from medfocus_pipeline.errors import ImageError
from tests.datasets.conftest import SaveImage

RED = (200, 30, 20)


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "bmp", "webp"])
def test_every_raster_format_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    PIL.Image.new("RGB", (9, 5), RED).save(path)
    image = read_image(path)
    assert (image.shape, image.dtype, image.flags.c_contiguous) == ((5, 9, 3), np.uint8, True)
    assert image.flags.writeable
    assert np.abs(image.astype(int) - RED).max() <= 4


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("LA", (200, 51), (40, 40, 40)),
        ("RGBA", (200, 100, 50, 51), (40, 20, 10)),
        ("RGBA", (200, 100, 50, 0), (200, 100, 50)),  # clear throughout: not meant
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("I;16", 9, (0, 0, 0)),
        ("I", 9, (0, 0, 0)),
        ("F", 0.5, (0, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(
    tmp_path: Path, mode: str, colour: object, expected: tuple[int, int, int]
) -> None:
    path = tmp_path / "x.tif"
    PIL.Image.new(mode, (3, 2), colour).save(path)  # type: ignore[arg-type]
    deep = {"I;16": "uint16", "I": "int32", "F": "float32"}
    assert decode(path).mode == deep.get(mode, mode)
    assert (read_image(path) == expected).all()


def test_palette_and_its_transparency_are_applied(tmp_path: Path) -> None:
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=0)
    assert read_image(tmp_path / "opaque.png").tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert read_image(tmp_path / "clear.png").tolist() == [[[0, 0, 0], [40, 50, 60]]]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = PIL.Image.new("RGB", (4, 2))
    image.putpixel((0, 0), (255, 255, 255))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the first row is the right-hand side
    image.save(tmp_path / "x.png", exif=exif)
    upright = read_image(tmp_path / "x.png")
    assert upright.shape == (4, 2, 3)
    assert upright[0, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_greys_are_scaled_to_their_own_range(tmp_path: Path, dtype: type) -> None:
    values = np.array([[1000, 1500, 2000]], dtype=dtype)
    PIL.Image.fromarray(values).save(tmp_path / "x.tif")
    assert read_image(tmp_path / "x.tif")[0, :, 0].tolist() == [0, 128, 255]


def test_first_page_is_taken(tmp_path: Path) -> None:
    pages = [PIL.Image.new("L", (2, 2), value) for value in (11, 222)]
    for name in ("x.tif", "x.webp"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:], lossless=True)
        assert (read_image(tmp_path / name) == 11).all()


def test_content_decides_and_not_the_extension(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (3, 2), RED).save(tmp_path / "x.jpg", format="PNG")
    assert read_image(tmp_path / "x.jpg")[0, 0].tolist() == list(RED)


def test_one_pixel_is_an_image(tmp_path: Path) -> None:
    PIL.Image.new("L", (1, 1), 5).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png").tolist() == [[[5, 5, 5]]]


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "bmp", "webp"])
def test_truncated_image_is_refused(tmp_path: Path, save_image: SaveImage, ending: str) -> None:
    path = save_image(tmp_path / f"x.{ending}", size=(64, 64))
    data = path.read_bytes()
    for share in (0.05, 0.5):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ImageError, match=r"x\."):
            read_image(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\)\.$"),
        (b"hello, I am text", r"is no image: expected PNG, JPEG"),
        (b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), "WebP"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "PNG|damaged"),
        (b"BM" + bytes(60), "BMP|damaged"),
        (b"\xff\xd8\xff\xe0" + bytes(60), "JPEG|damaged"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        read_image(tmp_path / "none.png")


def _claim_size(path: Path, width: int, height: int) -> None:
    """A PNG whose header claims another size, with the right checksum."""
    import struct
    import zlib

    PIL.Image.new("L", (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)


@pytest.mark.parametrize("width", [10_000, 20_000, 2**31 - 1])
def test_decompression_bomb_is_refused_without_a_warning(tmp_path: Path, width: int) -> None:
    # Pillow only warns between its limit and twice that: 10,000 x 10,000 is there.
    _claim_size(tmp_path / "x.png", width, 10_000)
    with pytest.raises(ImageError, match="too large"):
        read_image(tmp_path / "x.png")


def test_image_without_pixels_is_refused(tmp_path: Path) -> None:
    _claim_size(tmp_path / "x.png", 0, 10)
    with pytest.raises(ImageError, match="PNG"):
        read_image(tmp_path / "x.png")


def test_bomb_limit_is_pillows_own() -> None:
    assert MAX_PIXELS == PIL.Image.MAX_IMAGE_PIXELS


# A TIFF with odd tags is worth a warning to Pillow, and nothing to us.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(data=st.data(), ending=st.sampled_from(["png", "jpg", "tif", "bmp", "webp"]))
def test_damaged_bytes_give_an_image_or_an_image_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, ending: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz.{ending}"
    PIL.Image.linear_gradient("L").resize((16, 16)).save(path)
    content = bytearray(path.read_bytes())
    places = st.integers(0, len(content) - 1)
    for place in data.draw(st.lists(places, min_size=1, max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        image = decode(path).pixels
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)


@given(
    arrays.arrays(
        st.sampled_from([np.float64, np.float32, np.int16, np.uint16, np.int32]),
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=4),
    )
)
def test_scaling_keeps_the_order_and_uses_the_whole_range(values: np.ndarray) -> None:
    scaled = to_rgb8(values)
    assert (scaled.shape, scaled.dtype) == ((*values.shape, 3), np.uint8)
    finite = values[np.isfinite(values)]
    shown = scaled[..., 0][np.isfinite(values)]
    assert (scaled[~np.isfinite(values)] == 0).all()
    assert (np.diff(shown[np.argsort(finite, kind="stable")].astype(int)) >= 0).all()
    if finite.size and finite.min() < finite.max():
        assert (shown.min(), shown.max()) == (0, 255)
    else:
        assert (scaled == 0).all()


def test_annotation_is_the_union_of_its_masks(tmp_path: Path) -> None:
    one = np.zeros((4, 6), dtype=np.uint8)
    one[0, 0] = 255
    PIL.Image.fromarray(one).save(tmp_path / "one.png")
    two = np.zeros((4, 6), dtype=bool)
    two[3, 5] = True
    PIL.Image.fromarray(two).save(tmp_path / "two.png")
    label = np.zeros((8, 12, 3), dtype=np.uint8)
    label[4:6, :2] = (0, 0, 1)
    PIL.Image.fromarray(label).save(tmp_path / "large.png")
    paths = [tmp_path / name for name in ("one.png", "two.png", "large.png")]
    mask = read_annotation(paths, (4, 6))
    assert mask.dtype == bool
    assert np.argwhere(mask).tolist() == [[0, 0], [2, 0], [3, 5]]


def test_no_annotation_is_an_empty_mask() -> None:
    mask = read_annotation([], (2, 3))
    assert (mask.shape, mask.any()) == ((2, 3), False)


def test_extensions_are_the_documented_ones() -> None:
    assert ".nii.gz" in readers.EXTENSIONS
    assert all(ending == ending.lower() for ending in readers.EXTENSIONS)
