"""Images in an object store: found by one listing, decoded whatever their format."""

import io
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from medfocus_pipeline.datasets.annotation_files import AnnotationFiles
from medfocus_pipeline.datasets.card import load_card
from medfocus_pipeline.datasets.readers import decode, picture_place, read_annotation
from medfocus_pipeline.datasets.tree import find_images, other_kinds
from medfocus_pipeline.object_paths import ObjectPath
from tests.objects.conftest import Server

ROOT = Path(__file__).parents[2]


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 6), level, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_images_are_known_by_ending_or_first_bytes(bucket: ObjectPath, server: Server) -> None:
    for name in ("a/one.png", "a/IM0001", "b/deep/two.PNG", ".hidden/three.png", "a/.four.png"):
        (bucket / name).write_bytes(png(9))
    (bucket / "a" / "notes.txt").write_text("no image")
    (bucket / "a" / "README").write_text("no image")
    server.asked.clear()
    assert [one.path for one in find_images(bucket)] == ["a/IM0001", "a/one.png", "b/deep/two.PNG"]
    opened = [path.rpartition("/")[2] for method, path in server.asked if "/a/" in path]
    assert set(opened) == {"IM0001", "README"}  # the others' names say what they are
    assert dict(other_kinds(bucket)) == {".txt": 1, "no ending": 1}


def test_any_format_is_decoded_and_one_picture_of_several(bucket: ObjectPath) -> None:
    volume = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    (bucket / "scan.nii").write_bytes(volume.to_bytes())
    (bucket / "one.png").write_bytes(png(9))
    assert decode(bucket / "one.png").pixels.shape == (4, 6, 3)
    assert decode(*picture_place(bucket / "scan.nii" / "0002")).mode.endswith("slice 3/5")


def test_annotations_lie_beside_the_images(bucket: ObjectPath) -> None:
    card = load_card(ROOT / "data" / "breast.yaml")
    (bucket / "benign" / "benign (1).png").write_bytes(png(9))
    (bucket / "benign" / "benign (1)_mask.png").write_bytes(png(255))
    (bucket / "benign" / "benign (1)_mask_1.png").write_bytes(png(0))
    found = AnnotationFiles(bucket, card).of("benign/benign (1).png")
    assert [path.name for path in found] == ["benign (1)_mask.png", "benign (1)_mask_1.png"]
    assert read_annotation(found, (4, 6)).all()
