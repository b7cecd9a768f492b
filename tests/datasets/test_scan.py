"""From a folder or a CSV to the manifest, and the manifest on disk."""

import hashlib
import os
import pickle
from pathlib import Path

import PIL.Image
import pyarrow as pa
import pytest

from medfocus_pipeline.datasets import contents as scanning
from medfocus_pipeline.datasets import manifest as manifests
from medfocus_pipeline.datasets import scan as scanner
from medfocus_pipeline.datasets.annotation_files import AnnotationFiles
from medfocus_pipeline.datasets.card import Card, find_card
from medfocus_pipeline.datasets.contents import OUTSIDE
from medfocus_pipeline.datasets.dicom import NEEDS_PLUGIN
from medfocus_pipeline.datasets.manifest import Manifest
from medfocus_pipeline.datasets.manifest_columns import COLUMNS
from medfocus_pipeline.datasets.readers import decode, read_annotation
from medfocus_pipeline.datasets.reading import AS_FOUND, Reading
from medfocus_pipeline.datasets.scan import data_root, scan
from medfocus_pipeline.errors import ConfigError, DataError, ImageError, StoreError
from medfocus_pipeline.sealed_tables import write_table
from tests.datasets.conftest import REAL_DATA, SaveImage, write_dicom


def _problem(manifest: Manifest, path: str) -> str:
    return dict(manifest.problems).get(path, "")


def test_every_column_says_what_it_should(folder: Path, card: Card) -> None:
    manifest = scan(folder, name="pets", card=card)
    assert manifest.table.schema.equals(COLUMNS)
    assert (len(manifest), manifest.name, manifest.classes) == (8, "pets", ("cat", "dog"))
    assert manifest.from_card
    row = manifest.table.to_pylist()[0]
    file = folder / "Testing" / "cat" / "1.png"
    assert row == {
        "image_id": hashlib.sha256(file.read_bytes()).hexdigest(),
        "path": "Testing/cat/1.png",
        "split": "test",
        "class_index": 0,
        "class_name": "cat",
        "group": "",
        "domain": "",
        "patient": "",
        "width": 8,
        "height": 6,
        "mode": "RGB",
        "bytes": file.stat().st_size,
        "mtime_ns": file.stat().st_mtime_ns,
        "problem": "",
        "gate_score": None,
        "looks_like": "",
    }
    assert manifest.paths == sorted(manifest.paths)
    assert manifest.labels.tolist() == [0, 0, 1, 1] * 2
    assert manifest.files[row["image_id"]] == row["path"]


def test_faulty_files_are_rows_with_their_problem(folder: Path, card: Card) -> None:
    place = folder / "Training" / "cat"
    (place / "empty.png").touch()
    (place / "text.jpg").write_text("hello")
    PIL.Image.new("L", (1, 1)).save(place / "tiny.png")
    whole = (place / "1.png").read_bytes()
    (place / "half.png").write_bytes(whole[: len(whole) // 2])
    manifest = scan(folder, name="pets", card=card)
    problems = {Path(path).name: problem for path, problem in manifest.problems}
    assert problems["empty.png"] == "is empty (0 bytes)"
    assert problems["text.jpg"].startswith("is no image")
    assert "truncated" in problems["half.png"]
    assert len(problems) == 3
    assert (len(manifest), len(manifest.usable)) == (12, 9)
    assert all(len(image_id) == 64 for image_id in manifest.image_ids)


def test_files_outside_the_layout_are_rows_without_a_class(
    folder: Path, card: Card, save_image: SaveImage
) -> None:
    for name in ("loose.png", "Training/loose.png", "Training/bird/1.png", "val/cat/1.png"):
        save_image(folder / name)
    manifest = scan(folder, name="pets", card=card)
    assert [path for path, problem in manifest.problems if problem == OUTSIDE] == [
        "Training/bird/1.png",
        "Training/loose.png",
        "loose.png",
        "val/cat/1.png",  # Testing exists, and it comes first in the card
    ]
    assert manifest.labels[[p.startswith("val") for p in manifest.paths]].tolist() == [-1]


def test_first_root_and_split_folder_that_exist_win(
    tmp_path: Path, card: Card, save_image: SaveImage
) -> None:
    save_image(tmp_path / "wrapper" / "train" / "CATS" / "patient 1" / "1.png")
    save_image(tmp_path / "wrapper" / "val" / "Dog" / "1.png")
    card = card.model_copy(update={"roots": (".", "wrapper")})
    manifest = scan(tmp_path, name="pets", card=card)
    assert manifest.strings("split") == ["train", "test"]
    assert manifest.strings("class_name") == ["cat", "dog"]


def test_annotations_and_excluded_files_are_never_rows(
    folder: Path, card: Card, save_image: SaveImage
) -> None:
    image = "Training/cat/1 [a].png"
    for name in (image, "Training/cat/1 [a]_mask.png", "Training/cat/1 [a]_mask_1.png"):
        save_image(folder / name)
    save_image(folder / "Training" / "cat" / "1 a_mask.png")  # of another image
    save_image(folder / "Training" / "dog" / "thumb.png")
    update = {"annotation": "{stem}_mask*.png", "exclude": ("dog/thumb.*",)}
    card = card.model_copy(update=update)
    manifest = scan(folder, name="pets", card=card)
    assert [p for p in manifest.paths if "mask" in p or "thumb" in p] == []
    masks = AnnotationFiles(folder, card).of(image)
    assert [path.name for path in masks] == ["1 [a]_mask.png", "1 [a]_mask_1.png"]
    assert AnnotationFiles(folder, card).of("Training/dog/1.png") == []


def test_patient_comes_from_the_path(folder: Path, card: Card) -> None:
    card = card.model_copy(update={"patient": r"/(\d)\.png$"})
    assert scan(folder, name="pets", card=card).strings("group") == ["1", "2"] * 4


@pytest.mark.parametrize("name", ["a b.png", 'it\'s "x".png', "é☃.png", "new\nline.png", "#?*.png"])
def test_odd_names_are_images_like_others(
    folder: Path, card: Card, save_image: SaveImage, tmp_path: Path, name: str
) -> None:
    save_image(folder / "Training" / "cat" / name)
    manifest = scan(folder, name="pets", card=card)
    manifests.write(manifest, tmp_path / "m.parquet")
    assert f"Training/cat/{name}" in manifests.read(tmp_path / "m.parquet").paths
    assert manifest.problems == []


def test_name_that_is_not_utf8_is_refused_by_an_escaped_name(folder: Path, card: Card) -> None:
    try:
        with open(os.fsencode(folder) + b"/Training/cat/\xff.png", "wb"):  # noqa: PTH123
            pass
    except OSError:
        pytest.skip("this file system takes names of valid UTF-8 only")
    manifest = scan(folder, name="pets", card=card)
    assert "not valid UTF-8" in _problem(manifest, "Training/cat/\\xff.png")


def test_link_that_leaves_the_root_is_refused_by_name(
    folder: Path, card: Card, save_image: SaveImage, tmp_path: Path
) -> None:
    outside = save_image(tmp_path / "outside" / "secret.png")
    cats = folder / "Training" / "cat"
    (cats / "file.png").symlink_to(outside)
    (cats / "folder").symlink_to(outside.parent)
    (cats / "broken.png").symlink_to(folder / "none.png")
    (cats / "self.png").symlink_to(cats / "self.png")
    manifest = scan(folder, name="pets", card=card)
    for name in ("file.png", "folder"):
        assert "leaves the data folder" in _problem(manifest, f"Training/cat/{name}")
    assert "cannot be read: No such file" in _problem(manifest, "Training/cat/broken.png")
    assert "cannot be read: " in _problem(manifest, "Training/cat/self.png")
    assert (len(manifest), len(manifest.usable)) == (12, 8)
    assert "" not in manifest.files


def test_links_inside_the_root_are_followed_and_loops_end(
    folder: Path, card: Card, save_image: SaveImage
) -> None:
    cats = folder / "Training" / "cat"
    (cats / "again.png").symlink_to("1.png")
    (cats / "loop").symlink_to(folder)
    shelf = save_image(folder / "shelf" / "9.png").parent
    shelf.rename(folder / ".shelf")
    (cats / "shelf").symlink_to(folder / ".shelf")
    manifest = scan(folder, name="pets", card=card)
    assert manifest.problems == []
    added = [p for p in manifest.paths if p.startswith("Training/cat")]
    assert added == [f"Training/cat/{n}.png" for n in ("1", "2", "again", "shelf/9")]
    assert len(manifest.files) == 9


def test_root_may_itself_be_a_link(folder: Path, card: Card, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert len(scan(tmp_path / "link", name="pets", card=card).usable) == 8


def test_hidden_files_and_other_files_are_no_images(folder: Path, card: Card) -> None:
    for name in (".hidden.png", "notes.txt", "README", "1.2.840"):
        (folder / "Training" / "cat" / name).write_text("x" * 200)
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "x.png").touch()
    os.mkfifo(folder / "Training" / "cat" / "pipe.png")
    assert len(scan(folder, name="pets", card=card)) == 8


def test_dicom_is_found_without_an_extension(folder: Path, card: Card) -> None:
    for name in ("IM0001", "1.2.840.113619"):
        (folder / "Training" / "cat" / name).write_bytes(bytes(128) + b"DICM")
    paths = [Path(path).name for path, _ in scan(folder, name="pets", card=card).problems]
    assert paths == ["1.2.840.113619", "IM0001"]


def test_rescan_opens_only_what_changed(
    folder: Path, card: Card, save_image: SaveImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "Training" / "cat" / "empty.png").touch()
    before = scan(folder, name="pets", card=card)
    opened: list[str] = []

    def spy(path: Path, number: int | None) -> object:
        opened.append(path.name)
        return decode(path, number)

    monkeypatch.setattr(scanning, "decode", spy)
    assert scan(folder, name="pets", card=card, previous=before).table.equals(before.table)
    assert opened == []
    save_image(folder / "Testing" / "dog" / "3.png")
    os.utime(folder / "Testing" / "dog" / "1.png", ns=(5, 5))
    told: list[tuple[int, int]] = []
    after = scan(
        folder,
        name="pets",
        card=card,
        previous=before,
        on_file=lambda done, total: told.append((done, total)),
    )
    assert (sorted(opened), told) == (["1.png", "3.png"], [(1, 2), (2, 2)])
    assert set(before.files) < set(after.files)
    assert len(after.files) == len(before.files) + 1


def test_file_that_needed_a_plugin_is_opened_again(
    folder: Path, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path, _number: int | None) -> None:
        raise ImageError(f"is compressed DICOM and {NEEDS_PLUGIN}: any")

    with monkeypatch.context() as without_plugin:
        without_plugin.setattr(scanning, "decode", refuse)
        before = scan(folder, name="pets", card=card)
    assert len(before.problems) == 8
    assert scan(folder, name="pets", card=card, previous=before).problems == []


def test_rescan_with_another_card_gives_files_their_new_place(folder: Path, card: Card) -> None:
    cats = card.model_copy(update={"classes": card.classes[:1]})
    before = scan(folder, name="pets", card=cats)
    assert len(before.problems) == 4
    after = scan(folder, name="pets", card=card, previous=before)
    assert after.table.equals(scan(folder, name="pets", card=card).table)


def test_a_second_scan_of_a_folder_asks_stat_alone(
    folder: Path, card: Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = scan(folder, name="pets", card=card)

    def asked(*_: object) -> None:
        raise AssertionError("where the files belong was worked out again")

    with monkeypatch.context() as patch:
        patch.setattr(scanner, "of_folder", asked)
        assert scan(folder, name="pets", card=card, previous=before) is before
    file = folder / "Testing" / "cat" / "1.png"
    os.utime(file, ns=(1, 1))
    after = scan(folder, name="pets", card=card, previous=before)
    assert after.column("mtime_ns").to_pylist().count(1) == 1


def test_an_earlier_manifest_of_the_same_rows_gets_the_digest(folder: Path, card: Card) -> None:
    first = scan(folder, name="pets", card=card)
    earlier = first.with_inputs("")
    assert earlier.inputs == ""
    again = scan(folder, name="pets", card=card, previous=earlier)
    assert again.inputs == first.inputs != ""
    assert again.table.equals(first.table, check_metadata=True)


@pytest.mark.parametrize("change", ["name", "reading", "card", "no card", "link", "gone"])
def test_the_digest_differs_where_a_scan_could(folder: Path, card: Card, change: str) -> None:
    name, reading, used = "pets", AS_FOUND, card
    before = scan(folder, name=name, card=card, reading=reading).inputs
    if change == "name":
        name = "beasts"
    elif change == "reading":
        reading = Reading(keep_masks=True)
    elif change == "card":
        used = card.model_copy(update={"keep_masks": True})
    elif change == "no card":
        used = None  # type: ignore[assignment]
    elif change == "link":
        (folder / "Training" / "cat" / "out.png").symlink_to("/nowhere.png")
    else:
        (folder / "Testing" / "cat" / "1.png").unlink()
    assert scan(folder, name=name, card=used, reading=reading).inputs != before


def test_interruption_ends_the_scan(folder: Path, card: Card) -> None:
    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(folder, name="pets", card=card, on_file=interrupt)


def test_folder_without_a_card_takes_its_folder_names(
    tmp_path: Path, save_image: SaveImage
) -> None:
    for name in ("zebra/1.png", "ape/2.png", "ape/deep/3.png", "loose.png"):
        save_image(tmp_path / "archive" / name)
    manifest = scan(tmp_path, name="zoo")
    assert (manifest.classes, manifest.from_card) == (("ape", "zebra"), False)
    assert manifest.labels.tolist() == [0, 0, -1, 1]
    assert set(manifest.strings("split")) == {""}


@pytest.mark.parametrize("names", [("Training", "Testing"), ("TRAIN", "Test"), ("train", "test")])
def test_split_folders_are_known_without_a_card(
    tmp_path: Path, save_image: SaveImage, names: tuple[str, str]
) -> None:
    for split in names:
        for label in ("ape", "zebra"):
            save_image(tmp_path / split / label / "1.png")
    save_image(tmp_path / names[1] / "zebra" / "2.png")
    manifest = scan(tmp_path, name="zoo")
    assert manifest.classes == ("ape", "zebra")
    sides = {
        p.split("/")[0]: s for p, s in zip(manifest.paths, manifest.strings("split"), strict=True)
    }
    assert sides == {names[0]: "train", names[1]: "test"}
    assert manifest.problems == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "No image in .*DATA=images.csv"),
        (["1.png"], "lies in a class folder. Expected <class>/<image>"),
    ],
)
def test_folder_that_is_no_data_set_is_refused(
    tmp_path: Path, save_image: SaveImage, names: list[str], message: str
) -> None:
    for name in names:
        save_image(tmp_path / name)
    with pytest.raises(DataError, match=message):
        scan(tmp_path, name="zoo")


def test_folder_that_does_not_fit_its_card_is_refused(
    tmp_path: Path, card: Card, save_image: SaveImage
) -> None:
    save_image(tmp_path / "archive" / "Training" / "cat" / "1.png")
    with pytest.raises(
        DataError, match=r"\(Training\|train or Testing\|test\|val\)/\(cat\|cats or"
    ):
        scan(tmp_path, name="pets", card=card)


def test_missing_data_folder_names_the_fix_and_the_known_cards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"DATA=path.*brain, breast, covid, .*lungs"):
        scan(tmp_path / "none", name="pets")
    with pytest.raises(ConfigError, match="no name for a data set"):
        scan(tmp_path, name="../pets")


def _csv(folder: Path, text: str) -> Path:
    path = folder / "images.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_names_labels_splits_and_patients(folder: Path, card: Card) -> None:
    path = _csv(
        folder,
        "path,label,split,group\nTraining/cat/1.png,Cats,train,p1\n./Testing/dog/1.png,dog,TEST,\n",
    )
    manifest = scan(path, name="pets", card=card)
    assert data_root(path) == folder
    assert manifest.paths == ["Testing/dog/1.png", "Training/cat/1.png"]
    assert manifest.strings("split") == ["test", "train"]
    assert manifest.strings("class_name") == ["dog", "cat"]
    assert manifest.strings("group") == ["", "p1"]


def test_csv_names_domains_and_synthetic_images(folder: Path, card: Card) -> None:
    path = _csv(
        folder,
        "path,label,split,Hospital\nTraining/cat/1.png,cat,synthetic,north\n"
        "Testing/dog/1.png,dog,,south\n",
    )
    manifest = scan(path, name="pets", card=card)
    assert manifest.strings("domain") == ["south", "north"]
    assert manifest.strings("split") == ["", "synthetic"]


def test_a_cards_folder_of_synthetic_images_is_placed_apart(
    folder: Path, card: Card, save_image: SaveImage
) -> None:
    save_image(folder / "made" / "cats" / "1.png")
    save_image(folder / "made" / "horse" / "1.png")
    card = card.model_copy(update={"synthetic": ("made",)})
    manifest = scan(folder, name="pets", card=card)
    splits = dict(zip(manifest.paths, manifest.strings("split"), strict=True))
    assert splits["made/cats/1.png"] == "synthetic"
    assert [path for path, _ in manifest.problems] == ["made/horse/1.png"]


def test_rsnas_labels_are_one_row_a_box(tmp_path: Path) -> None:
    # Header and rows as the challenge's stage_2_train_labels.csv has them.
    text = (
        "patientId,x,y,width,height,Target\n"
        "0004cfab-14fd-4e49-80ba-63a80b6bddd6,,,,,0\n"
        "00436515-870c-4b36-a041-de91049b9ab4,264.0,152.0,213.0,379.0,1\n"
        "00436515-870c-4b36-a041-de91049b9ab4,562.0,152.0,256.0,453.0,1\n"
    )
    (tmp_path / "stage_2_train_labels.csv").write_text(text)
    names = ["0004cfab-14fd-4e49-80ba-63a80b6bddd6", "00436515-870c-4b36-a041-de91049b9ab4"]
    for seed, name in enumerate(names):
        write_dicom(tmp_path / f"stage_2_train_images/{name}.dcm", seed, PatientID=name)
    card = find_card("rsna")
    for source in (tmp_path, tmp_path / "stage_2_train_labels.csv"):
        manifest = scan(source, name="rsna", card=card)
        assert manifest.problems == []
        assert manifest.strings("class_name") == ["Normal", "Pneumonia"]
        assert manifest.strings("group") == names
    (tmp_path / "stage_2_train_labels.csv").write_text("id,Target\n1,0\n")
    with pytest.raises(DataError, match=r"(?s)column patientId is missing.*\{patientId\}\.dcm"):
        scan(tmp_path, name="rsna", card=card)


def test_csv_without_a_card_takes_its_labels(folder: Path, save_image: SaveImage) -> None:
    save_image(folder / 'a,"b\nc.png')
    path = _csv(
        folder,
        '\ufefflabel,path\nyes,Training/cat/1.png\nno,Training/dog/1.png\nyes,"a,""b\nc.png"\n',
    )
    manifest = scan(path, name="pets")
    assert manifest.classes == ("no", "yes")
    assert manifest.labels.tolist() == [1, 0, 1]


def test_wrong_csv_lists_all_problems_with_their_lines(
    folder: Path, card: Card, tmp_path: Path, save_image: SaveImage
) -> None:
    save_image(tmp_path / "outside.png")
    path = _csv(
        folder,
        "path,label,split\n"
        "Training/cat/1.png,cat,train\n"
        "Training/cat/1.png,dog,train\n"
        "none.png,bird,maybe\n"
        "../outside.png,cat,\n",
    )
    with pytest.raises(DataError) as caught:
        scan(path, name="pets", card=card)
    message = str(caught.value)
    for expected in (
        "6 problems",
        "line 3: path 'Training/cat/1.png' stands twice",
        "line 4: no file 'none.png'",
        "line 4: unknown label 'bird'",
        "line 4: split 'maybe' is neither train, validation, test nor synthetic",
        "line 5: no file '../outside.png'",
        "line 5: split is empty, but not in other lines",
        "Labels: cat, dog",
    ):
        assert expected in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column path is missing(.|\n)*column label is missing"),
        (
            "path,lable,path\n",
            "path stands twice(.|\n)*column label is missing(.|\n)*There are 'path', 'lable'",
        ),
        ("path,label\n", "lists no image"),
        ("path,label\nTraining/cat/1.png,\n", "labels no image"),
        ('path,label\n"Training/cat/1.png,x\n', "is no CSV"),
    ],
)
def test_unusable_csv_is_refused(folder: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        scan(_csv(folder, text), name="pets")


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("path,label,split,group", ","),
        ("Image Index,Finding Labels,Follow-up #,Patient ID", ","),  # NIH ChestX-ray14
        ("path;label;age;group", ";"),
        ("filename\tdiagnosis\tage\tpatient_id", "\t"),
    ],
)
def test_a_csv_as_hospitals_and_public_sets_have_it_is_read(
    folder: Path, header: str, separator: str, caplog: pytest.LogCaptureFixture
) -> None:
    side = "train" if "split" in header else "61"
    lines = [
        ("Training/cat/1.png", "No Finding", side, "a"),
        ("Training/dog/1.png", "Edema ", side, "b"),
        ("Training/dog/1.png", "Edema", side, "b"),
    ]
    text = "\n".join([header, *map(separator.join, lines)])
    manifest = scan(_csv(folder, "\ufeff" + text + "\n"), name="pets")
    assert manifest.classes == ("Edema", "No Finding")
    assert manifest.labels.tolist() == [1, 0]
    assert manifest.strings("group") == ["a", "b"]
    unknown = {"Follow-up #", "age"} & set(header.split(separator))
    assert all(name in caplog.text for name in unknown)


def test_several_labels_in_a_cell_are_refused_by_name(folder: Path) -> None:
    text = "path,label\nTraining/cat/1.png,Edema|lesion\nTraining/dog/1.png,lesion|Edema\n"
    with pytest.raises(DataError, match=r"line 2: 'Edema\|lesion' is several labels"):
        scan(_csv(folder, text), name="pets")


def test_csv_that_is_not_text_is_refused(folder: Path) -> None:
    (folder / "images.csv").write_bytes(b"path,label\n\xff,x\n")
    with pytest.raises(DataError, match="not UTF-8"):
        scan(folder / "images.csv", name="pets")


def test_manifest_is_written_only_when_it_changed(folder: Path, card: Card, tmp_path: Path) -> None:
    path = tmp_path / "cache" / "manifest.parquet"
    manifest = scan(folder, name="pets", card=card)
    assert manifests.write(manifest, path)
    assert not manifests.write(manifest, path)
    assert manifests.read(path).table.equals(manifest.table, check_metadata=True)
    renamed = scan(folder, name="other", card=card)
    assert manifests.write(renamed, path)
    assert [file.name for file in path.parent.iterdir()] == ["manifest.parquet"]


def test_damaged_or_foreign_manifest_is_refused_and_replaced(
    folder: Path, card: Card, tmp_path: Path
) -> None:
    path = tmp_path / "manifest.parquet"
    manifest = scan(folder, name="pets", card=card)
    older = {**manifest.table.schema.metadata, b"medfocus.schema_version": b"0"}
    faults = {
        "has no seal": lambda: path.write_bytes(b"PAR1 and no more"),
        "version 0, expected 4": lambda: write_table(
            path, manifest.table.replace_schema_metadata(older), owner="manifest"
        ),
        "version none": lambda: write_table(path, pa.table({"x": [1]}), owner="manifest"),
    }
    for message, damage in faults.items():
        damage()
        with pytest.raises(StoreError, match=f"{message}.*medfocus scan"):
            manifests.read(path)
        assert manifests.write(manifest, path)
        assert len(manifests.read(path)) == 8


def test_files_of_a_manifest_are_the_same_in_another_process(
    folder: Path, card: Card, tmp_path: Path
) -> None:
    path = tmp_path / "cache" / "manifest.parquet"
    manifests.write(scan(folder, name="pets", card=card), path)
    files = manifests.read(path).files
    sent = pickle.loads(pickle.dumps(files))
    path.unlink()
    assert dict(sent.items()) == dict(files.items()) == {name: files[name] for name in files}
    assert len(sent) == len(files) > 0


def test_manifest_opens_in_pandas(folder: Path, card: Card, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    manifests.write(scan(folder, name="pets", card=card), tmp_path / "m.parquet")
    frame = pandas.read_parquet(tmp_path / "m.parquet")
    assert list(frame.columns) == COLUMNS.names


needs_data = pytest.mark.skipif(
    not REAL_DATA.is_dir(), reason="the development images are not beside the repository"
)


@needs_data
def test_real_brain_images_have_their_official_split() -> None:
    manifest = scan(REAL_DATA / "brain", name="brain", card=find_card("brain"))
    sides = manifest.strings("split")
    assert (sides.count("train"), sides.count("test"), manifest.problems) == (800, 300, [])
    train = {i for i, s in zip(manifest.image_ids, sides, strict=True) if s == "train"}
    test = [i for i, s in zip(manifest.image_ids, sides, strict=True) if s == "test"]
    assert sum(image_id in train for image_id in test) == 17


@needs_data
def test_no_annotation_of_the_real_breast_images_is_a_row() -> None:
    card = find_card("breast")
    assert card is not None
    root = REAL_DATA / "breast"
    manifest = scan(root, name="breast", card=card)
    assert (len(manifest), manifest.problems) == (149, [])
    assert not [path for path in manifest.paths if "_mask" in path]
    masks = {path: AnnotationFiles(root, card).of(path) for path in manifest.paths}
    assert sum(map(len, masks.values())) == 151
    for path in manifest.paths[::30]:
        mask = read_annotation(masks[path], (64, 48))
        assert mask.any() == (not path.startswith("normal"))
