"""Stage one on images and a cache in an object store, with all that goes wrong there."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medfocus_pipeline import segmentation
from medfocus_pipeline.object_paths import ObjectPath
from medfocus_pipeline.places import place
from tests.objects.conftest import Server
from tests.stages.conftest import PROBE, Medfocus, make_images, medfocus

__all__ = ["medfocus"]

SHARD = 8

_RUN = f"""
from medfocus_pipeline import segmentation
segmentation.SHARD_ROWS = {SHARD}
from medfocus_pipeline.__main__ import main
main()
"""


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images."""
    return make_images(tmp_path_factory.mktemp("drawn") / "shapes", train=30, size=40)


@pytest.fixture
def images(bucket: ObjectPath, drawn: Path) -> ObjectPath:
    """The same in a bucket."""
    return put_images(bucket / "shapes", drawn, "*.png")


@pytest.fixture
def few(bucket: ObjectPath, drawn: Path) -> ObjectPath:
    """Six of them."""
    return put_images(bucket / "shapes", drawn, "* [0-2].png")


def put_images(folder: ObjectPath, drawn: Path, pattern: str) -> ObjectPath:
    for path in drawn.rglob(pattern):
        (folder / path.relative_to(drawn).as_posix()).write_bytes(path.read_bytes())
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """What the stores of a cache have, but for times and places."""
    names = [one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file()]
    told = ("lock", ".lock", "store.json", "weights.json", "settings.json", "manifest.parquet")
    kept = [name for name in names if not name.rpartition("/")[2].startswith(told)]
    return {name: (folder / name).read_bytes() for name in kept if name != "last.json"}


def test_stage_one_computes_what_it_does_in_folders(
    medfocus: Medfocus, images: ObjectPath, bucket: ObjectPath, drawn: Path, server: Server
) -> None:
    embed = ("embed", "--views", "identity", "--set", "focus=[original]")
    for cache, data in (("cache", str(drawn)), (f"{bucket}/cache", str(images))):
        first = medfocus(
            "masks", "shapes", "--data", data, "--profile", "imagenet", "--cache", cache
        )
        assert "classes: disc 30, square 30" in first.out
        assert "60 images in" in medfocus(*embed, "--cache", cache).out
    assert files(bucket / "cache") == files(Path("cache"))
    gets = [path for method, path in server.asked if method == "GET" and path.endswith(".png")]
    assert len(gets) == 3 * 60  # scan, masks, embed: one request an image each

    server.asked.clear()
    again = medfocus("masks", "--cache", f"{bucket}/cache")
    assert "all 60 images are done, nothing to do" in again.out
    assert not [path for method, path in server.asked if path.endswith(".png")]
    assert len(server.asked) < 60
    assert "60 of 60 rows" in medfocus("status", "--cache", f"{bucket}/cache").out
    assert "masks" in medfocus("cache", "ls", "--cache", f"{bucket}/cache").out
    assert "as it was written" in medfocus("cache", "verify", "--cache", f"{bucket}/cache").out

    row = ("--set", "rows=[{head: {name: linear}, focus: [original]}]")
    for text in ("4 runs fitted", "nothing to do"):  # stage two reads and writes it too
        assert text in medfocus(*PROBE, *row, "--cache", f"{bucket}/cache").out
    assert "linear" in medfocus("results", "--cache", f"{bucket}/cache").out


def test_five_kills_lose_nothing(
    medfocus: Medfocus,
    bucket: ObjectPath,
    drawn: Path,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = bucket / "cache"
    line = ("masks", "shapes", "--data", str(drawn), "--profile", "imagenet", "--cache")
    kept: dict[str, int] = {}
    for puts in (9, 5, 6, 3, 7):
        words = [sys.executable, "-c", _RUN, *line, str(cache)]
        child = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE)
        server.fault = _killing(child, puts)
        child.communicate()
        assert child.returncode == -9
        server.settle()
        found = {one.name: one.mtime_ns for one in cache.below() if "/index/" in one.name}
        assert kept.items() <= found.items()  # what was finished is not made again
        kept = found
    assert 0 < len(kept) < 8
    server.fault = lambda method, path: None
    monkeypatch.setattr(segmentation, "SHARD_ROWS", SHARD)
    assert f"{60 - SHARD * len(kept)} images in" in medfocus(*line, cache).out
    medfocus(*line, "cache")
    assert files(cache) == files(tmp_path / "cache")


def _killing(child: "subprocess.Popen[str]", puts: int) -> Callable[[str, str], None]:
    """Kills a process when it puts an object for the so-manieth time; the object is put."""
    left = iter(range(puts - 1, -1, -1))

    def fault(method: str, path: str) -> None:
        if method == "PUT" and next(left, -1) == 0:
            child.kill()
            child.wait()

    return fault


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (("404 Not Found", "NoSuchKey"), "cannot be read: "),
        (("403 Forbidden", "AccessDenied"), "cannot be read: AccessDenied it is"),
        (("break", ""), "cannot be read: "),
    ],
)
def test_an_object_that_vanishes_or_breaks_off_is_that_images_problem(
    medfocus: Medfocus, few: ObjectPath, server: Server, answer: tuple[str, str], why: str
) -> None:
    scan = ("scan", "shapes", "--data", str(few), "--profile", "imagenet")
    server.fault = lambda method, path: (
        answer if method == "GET" and path.endswith("disc 2.png") else None
    )
    found = medfocus(*scan)
    assert found.code == 0
    assert "5 usable images" in found.out
    assert f"'disc/disc 2.png' {why}" in " ".join((found.out + found.err).split())
    server.fault = lambda method, path: None
    assert "6 usable images" in medfocus(*scan).out


def test_an_object_that_vanishes_after_the_scan_is_left_out_of_the_masks(
    medfocus: Medfocus, few: ObjectPath, server: Server
) -> None:
    server.fault = lambda method, path: (
        ("404 Not Found", "NoSuchKey")
        if path.endswith("disc 2.png") and server.asked.count((method, path)) > 1
        else None
    )
    found = medfocus("masks", "shapes", "--data", few, "--profile", "imagenet")
    assert found.code == 0
    assert "5 images in" in found.out
    assert "disc/disc 2.png" in found.out + found.err


@pytest.mark.parametrize(
    ("option", "address", "answer", "why"),
    [
        ("data", "s3://nobody-has-it/brain", None, "is not at s3://nobody-has-it/brain"),
        ("cache", "s3://nobody-has-it/cache", None, "s3://nobody-has-it.* bucket does not exist"),
        ("data", "s3://somebodys/brain", ("403 Forbidden", "AccessDenied"), "s3://somebodys/brain"),
        ("cache", "s3://somebodys/c", ("403 Forbidden", "AccessDenied"), "cannot be read now"),
        ("data", "nothing://scans", None, "nothing:// is no address that can be read"),
    ],
)
def test_a_place_that_is_not_to_be_had_is_one_sentence(
    medfocus: Medfocus,
    server: Server,
    drawn: Path,
    option: str,
    address: str,
    answer: tuple[str, str] | None,
    why: str,
) -> None:
    server.fault = lambda method, path: answer
    line = {"--data": str(drawn), "--profile": "imagenet", f"--{option}": address}
    found = medfocus("masks", "shapes", *(word for pair in line.items() for word in pair))
    assert found.code in {1, 2}
    assert "Traceback" not in found.err
    assert why.split(".*")[0] in " ".join(found.err.split())


def test_a_csv_names_images_in_the_store(
    medfocus: Medfocus, few: ObjectPath, bucket: ObjectPath
) -> None:
    lines = [f"{few}/disc/disc 1.png,disc", "square/square 1.png,square", "disc 2,disc"]
    (bucket / "labels.csv").write_text("\n".join(["path,label", *lines]))
    listed = ("scan", "listed", "--data", f"{bucket}/labels.csv", "--images", str(few))
    assert "3 usable images" in medfocus(*listed, "--profile", "imagenet").out
    (bucket / "labels.csv").write_text("path,label\ndisc/none.png,disc\n")
    assert "line 2: no file 'disc/none.png'" in medfocus(*listed).err


def test_what_needs_a_folder_refuses_before_it_begins(medfocus: Medfocus, drawn: Path) -> None:
    where = ("shapes", "--data", drawn, "--profile", "imagenet", "--cache", "memory://cache")
    for command in ("finetune", "train-adapter"):
        found = medfocus(command, *where)
        assert found.code == 2
        assert f"{command} keeps checkpoints, which need a folder" in found.err
        assert "aws s3 sync memory://cache cache" in found.err
    assert not place("memory://cache").exists()
