"""A small drawn data set whose stores have many shards."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from medfocus_pipeline import Project, embedding, segmentation
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
