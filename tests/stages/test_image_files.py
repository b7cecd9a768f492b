from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medfocus_pipeline.commands.image_files import find, read
from medfocus_pipeline.errors import ConfigError


def save(path: Path, grey: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), grey, np.uint8)).save(path, format="PNG")
    return path


def test_a_folder_stands_for_the_images_in_it_and_below(tmp_path: Path) -> None:
    for name in ("b.png", "a/c.PNG", ".hidden/d.png", ".e.png"):
        save(tmp_path / name)
    save(tmp_path / "c" / "IM0001")  # by its content, as a scan does
    (tmp_path / "notes.txt").touch()
    sources = find([tmp_path])
    assert [one.path.name for one in sources] == ["c.PNG", "b.png", "IM0001"]
    assert [one.name for one in sources] == ["a_c", "b", "c_IM0001"]


def test_a_file_is_taken_whatever_it_is_called_and_once(tmp_path: Path) -> None:
    path = save(tmp_path / "IM0001")
    assert [one.path for one in find([path, tmp_path / "gone.png", path])] == [
        path,
        tmp_path / "gone.png",
    ]


def test_no_two_pictures_have_one_name(tmp_path: Path) -> None:
    names = ("x/1-2.png", "y/1.png", "z/1.dcm", "w/1.nii.gz")
    assert [one.name for one in find([tmp_path / name for name in names])] == [
        "1-2",
        "1",
        "1-3",
        "1-4",
    ]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no image\. Expected are files that end in \.bmp"):
        find([tmp_path])


@pytest.mark.parametrize("at_once", [1, 3, 10])
def test_images_come_in_order_and_problems_are_kept(tmp_path: Path, at_once: int) -> None:
    paths = [save(tmp_path / f"{grey}.png", grey) for grey in range(7)]
    paths[4].write_bytes(b"nothing")
    problems: dict[str, str] = {}
    tried, greys = 0, []
    for number, batch in read(find(paths), problems, at_once=at_once):
        tried += number
        greys += [int(one.pixels[0, 0, 0]) for _, one in batch]
    assert tried == 7
    assert greys == [0, 1, 2, 3, 5, 6]
    assert list(problems) == [str(paths[4])]
    assert "is no image" in problems[str(paths[4])]
