"""A small drawn data set whose stores have many shards."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from medfocus_pipeline import Project, embedding, segmentation
from medfocus_pipeline.project.progress import Advance, Progress
from medfocus_pipeline.sealed import parse_json
from medfocus_pipeline.stores.store import Store
from tests.stages.conftest import draw

IMAGES = 96
SHARD_ROWS = 8
PROFILE = """
masks:
  segmenter: { name: threshold }
  frame: 64
embed:
  encoder: { name: efficientnet-lite0 }
  roi: best
  focus: [segmented]
  views: [identity]
"""

Open = Callable[[str], Project]


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    for kind, name in enumerate(("disc", "square")):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(IMAGES // 2):
            picture = Image.fromarray(draw(kind, number))
            picture.save(folder / "images" / name / f"{number:03d}.png")
    (folder / "cheap.yaml").write_text(PROFILE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def small_shards() -> Iterator[None]:
    """A shard's size is written into a store when it is made; a real one would hold all rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segmentation, "SHARD_ROWS", SHARD_ROWS)
        patch.setattr(embedding, "SHARD_ROWS", SHARD_ROWS)
        yield


@pytest.fixture
def opened(drawn: Path, tmp_path: Path) -> Open:
    """Open the data set with a cache of a name; the images are this test's own."""
    images = shutil.copytree(drawn / "images", tmp_path / "images")

    def open_(cache: str) -> Project:
        profile = str(drawn / "cheap.yaml")
        return Project.open("shapes", data=images, profile=profile, cache=tmp_path / cache)

    return open_


@pytest.fixture(scope="package")
def cluster() -> Iterator[None]:
    """Two workers, on loopback, for all tests of this folder."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: medfocus-pipeline[ray]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else it writes a token into the home folder
        ray.init(
            "local",  # also where this machine is in a cluster
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=100 * 2**20,
            _node_ip_address="127.0.0.1",
        )
        try:
            yield
        finally:
            ray.shutdown()
    assert not workers()


def workers() -> list[int]:
    """Processes of this test's cluster that compute."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
            names[int(folder.name)] = (folder / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue  # it has ended meanwhile
    return [
        pid
        for pid, name in names.items()
        if name.startswith(b"ray::_Worker") and parents.get(parents[pid]) == os.getpid()
    ]


class Killer:
    """Kills, each time that it is called, a worker that it has not killed yet.

    Attributes:
        killed: process ids.
    """

    def __init__(self) -> None:
        self.killed: list[int] = []

    def __call__(self) -> None:
        victim = next(pid for pid in workers() if pid not in self.killed)
        os.kill(victim, signal.SIGKILL)
        self.killed.append(victim)


def after_each_shard(act: "list[object]") -> Progress:
    """Progress that calls the next of some functions each time it moves on."""
    rest = iter(act)

    @contextmanager
    def progress(what: str, total: int, /) -> Iterator[Advance]:
        def advance(rows: int, total: int | None = None, /) -> None:
            function = next(rest, None)
            if callable(function):
                function()

        yield advance

    return progress


def files(store: Store) -> dict[str, bytes | dict[str, object]]:
    """All that a store is on disk, but when it was made."""
    found: dict[str, bytes | dict[str, object]] = {}
    for path in sorted(store.path.rglob("*")):
        if path.is_file() and path.name != ".lock":
            found[path.relative_to(store.path).as_posix()] = path.read_bytes()
    described = dict(parse_json(store.path / "store.json"))
    found["store.json"] = {
        name: value for name, value in described.items() if name not in {"created", "sha256"}
    }
    return found
