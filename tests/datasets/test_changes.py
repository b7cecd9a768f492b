"""A scan after a change gives what a first scan gives, and looks at what changed alone."""

import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medfocus_pipeline.datasets.card import Card, plain_card
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.reading import Reading
from medfocus_pipeline.datasets.scan import scan
from medfocus_pipeline.errors import DataError
from tests.datasets.conftest import SaveImage, write_dicom


def _png(seed: int, values: int = 256) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, values, (6, 8), np.uint8)
    PIL.Image.fromarray(pixels * (255 // (values - 1))).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def _tiff(*pages: int) -> bytes:
    first, *others = (PIL.Image.open(io.BytesIO(_png(page))) for page in pages)
    first.save(file := io.BytesIO(), "TIFF", save_all=True, append_images=others)
    return file.getvalue()


def _dicom(seed: int, patient: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_dicom(path := Path(folder, "one.dcm"), seed, PatientID=patient)
        return path.read_bytes()


CONTENTS = {
    **{f"grey {n}": _png(n) for n in range(4)},
    **{f"two {n}": _png(n, values=2) for n in range(2)},
    **{f"of patient {n}": _dicom(n, f"P{n % 2}") for n in range(3)},
    "pages": _tiff(4, 5, 6),
    "other pages": _tiff(7, 8),
    "broken": _png(9)[:60],
    "text": b"notes",
}
PATHS = st.builds(
    "{}{}{}{}{}{}".format,
    st.sampled_from(["", "wrap/"]),
    st.sampled_from(["", "", "train/", "test/", "val/", "images/", "masks/"]),
    st.sampled_from(["a/", "b/", "A/"]),
    st.sampled_from(["", "", "p1/", "p2/", "p3/deep/"]),
    st.sampled_from(["1", "2", "3", "1_mask", "2-seg_1", "ŕoi"]),
    st.sampled_from([".png", ".png", "", ".dcm", ".tif", ".txt"]),
)
TREES = st.dictionaries(PATHS, st.sampled_from(sorted(CONTENTS)), max_size=12)
ORDERLY = st.dictionaries(
    st.builds("{}/p{}/{}.png".format, st.sampled_from("ab"), st.integers(1, 4), st.integers(1, 3)),
    st.sampled_from(["grey 0", "grey 1", *sorted(CONTENTS.keys() - {"text"})]),
    min_size=1,
)
CARD = plain_card("letters", ("a", "b"))
CARDS = (
    None,
    CARD,
    CARD.model_copy(update={"patient": r"/(p\d)/"}),
    CARD.model_copy(update={"roots": ("wrap", ".")}),
    CARD.model_copy(update={"splits": {"train": ("train",), "test": ("test", "images")}}),
    CARD.model_copy(update={"use_validation": "train", "volumes": "refuse", "synthetic": ("p1",)}),
    CARD.model_copy(update={"exclude": ("*2*",)}),
    CARD.model_copy(update={"annotation": "{stem}_mask.png"}),
    CARD.model_copy(update={"volumes": "all"}),
)


def _write(root: Path, tree: Mapping[str, str], time: int) -> None:
    for name, content in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(CONTENTS[content])
        os.utime(root / name, ns=(time, time))


def _scanned(
    root: Path, card: Card | None, reading: Reading, previous: Manifest | None = None
) -> pa.Table | str:
    try:
        return scan(root, name="x", card=card, reading=reading, previous=previous).table
    except DataError as error:
        return str(error)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([TREES, ORDERLY]).flatmap(lambda trees: st.tuples(trees, trees)),
    st.data(),
    st.sampled_from(CARDS),
    st.sampled_from([None, None, *CARDS]),
    st.sampled_from([Reading(), Reading(), Reading(keep_masks=True)]),
)
def test_a_scan_after_a_change_is_a_first_scan(
    trees: tuple[dict[str, str], dict[str, str]],
    data: st.DataObject,
    card: Card | None,
    other: Card | None,
    reading: Reading,
) -> None:
    before, added = trees
    added = {name: added[name] for name in sorted(added)[: data.draw(st.integers(0, 3))]}
    gone = data.draw(st.sets(st.sampled_from(sorted(before)), max_size=2)) if before else set()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write(root, before, 10**18)
        first = _scanned(root, card, reading)
        _write(root, added, 10**18 + 1)
        for name in gone - added.keys():
            (root / name).unlink()
        if isinstance(first, str):
            return
        card = other or card
        again = _scanned(root, card, reading, Manifest(first))
        fresh = _scanned(root, card, reading)
    if isinstance(fresh, str):
        assert again == fresh
    else:
        assert again.to_pylist() == fresh.to_pylist()
        assert again.equals(fresh, check_metadata=True)


LINES = st.lists(
    st.builds(
        "{}{}.png,{}".format,
        st.sampled_from(["", "", "a/p1/", "a/p2/", "b/p1/"]),  # a path, or a name alone
        st.integers(1, 3),
        st.sampled_from("ab"),
    ),
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(ORDERLY, ORDERLY, LINES, st.none() | LINES, st.sampled_from([None, CARDS[-1]]), st.data())
def test_a_csv_read_after_a_change_is_one_read_first(
    tree: dict[str, str],
    added: dict[str, str],
    lines: list[str],
    others: list[str] | None,
    card: Card | None,
    data: st.DataObject,
) -> None:
    added = {name: added[name] for name in sorted(added)[: data.draw(st.integers(0, 2))]}
    gone = data.draw(st.sets(st.sampled_from(sorted(tree)), max_size=1))
    lines = [*lines, *(f"{name},a" for name in tree)][:4]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "list.csv")
        path.write_text("\n".join(["path,label", *lines]))
        _write(path.parent, tree, 10**18)
        first = _scanned(path, card, Reading())
        _write(path.parent, added, 10**18 + 1)
        for name in gone - added.keys():
            (path.parent / name).unlink()
        if others is not None:
            path.write_text("\n".join(["path,label", *others]))
        if isinstance(first, str):
            return
        again = _scanned(path, card, Reading(), Manifest(first))
        fresh = _scanned(path, card, Reading())
    if isinstance(fresh, str):
        assert again == fresh
    else:
        assert again.equals(fresh, check_metadata=True)


@pytest.fixture
def archive(tmp_path: Path, save_image: SaveImage) -> Path:
    """Of two classes and three patients each."""
    for label in ("benign", "malignant"):
        for patient in range(3):
            for number in range(2):
                save_image(tmp_path / label / f"{label[0]}{patient}" / f"{number}.png")
    return tmp_path


CHANGES = {
    "added": ["benign/b1/7.png"],
    "a new patient": ["benign/b7/1.png", "benign/b7/2.png"],
    "changed": ["malignant/m0/1.png"],
    "gone": [],
    "unreadable": ["malignant/m9/broken.png"],
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_did_not_change_is_not_opened_again(
    archive: Path, save_image: SaveImage, change: str
) -> None:
    before = scan(archive, name="x")
    for name in CHANGES[change]:
        save_image(archive / name)
        if change == "unreadable":
            (archive / name).write_bytes(b"no picture")
    if change == "gone":
        (archive / "benign" / "b0" / "0.png").unlink()
    fresh = scan(archive, name="x")
    opened: list[int] = []
    after = scan(archive, name="x", previous=before, on_file=lambda _, total: opened.append(total))
    assert after.table.equals(fresh.table, check_metadata=True)
    assert opened == [len(CHANGES[change])] * len(CHANGES[change])


@pytest.mark.parametrize("other", ["benign/b0/9.png", "malignant/m0/9.png"])
def test_a_file_that_is_only_called_otherwise_is_seen(archive: Path, other: str) -> None:
    before = scan(archive, name="x")
    (archive / "benign" / "b0" / "1.png").rename(archive / other)
    after = scan(archive, name="x", previous=before)
    assert set(after.paths) ^ set(before.paths) == {"benign/b0/1.png", other}
    assert after.table.equals(scan(archive, name="x").table, check_metadata=True)


@pytest.mark.parametrize("first", [True, False], ids=["the first is added", "the only one is gone"])
def test_patients_are_told_anew_where_a_path_tells_the_first_or_none(
    archive: Path, save_image: SaveImage, first: bool
) -> None:
    card = plain_card("x", ("benign", "malignant")).model_copy(update={"patient": r"/(c\d)/"})
    told = archive / "benign" / "c1" / "0.png"
    if not first:
        save_image(told)
    before = scan(archive, name="x", card=card)
    if first:
        save_image(told)
    else:
        told.unlink()
    after = scan(archive, name="x", card=card, previous=before)
    assert after.strings("group") != before.strings("group")
    assert after.table.equals(scan(archive, name="x", card=card).table, check_metadata=True)
